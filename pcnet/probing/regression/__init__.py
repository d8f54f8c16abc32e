"""Maps from activations to targets, and the default protocol that scores them on words that they were not fitted to.

`moments`, `principal`, `ridge` and `ranks` are the linear algebra; `probes` and `nonlinear` make it scikit-learn estimators;
`protocol` and `scoring` deal words to folds and weigh what is held out.
"""

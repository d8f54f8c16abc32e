"""What the report says in words that no number changes: how to read each figure, and how everything was measured."""


def _flow(text: str) -> str:
    """One paragraph: line breaks and indents of the source become single spaces."""
    return " ".join(text.split())


TITLES = {
    "simplex": "The belief simplex",
    "training": "Loss over training",
    "scores": "Scores with their controls",
    "iterations": "Inference, iteration by iteration",
    "cost": "What an answer costs",
}
CAPTIONS = {
    "simplex": _flow("""
        Every point is one word, placed at its belief over the states of the process and coloured by its TRUE belief in
        all panels. Left: the exact beliefs. Each column: the beliefs decoded linearly from one trained model, from an
        untrained copy of it, and with beliefs shuffled among words. A model that holds the geometry repeats the left
        picture, with the colours in the same places; random weights already give a blurred one, and shuffled beliefs
        collapse to the mean. R² is held out, words weighted by probability; untrained: the best of all copies;
        shuffled: the 95th percentile over permutations. All panels have the same orientation and scale, and show the
        first training seed; of many words a random part of each length is drawn.
    """),
    "training": _flow("""
        Left: loss minus the loss of the exact Bayesian observer on the same fresh sequences, averaged over a logging
        window (log axis; windows at or below zero are not drawn). Diamonds: the exact excess at the end, over all words
        instead of a sample. Right: the loss itself; dashed: the floor, the exact entropy averaged over context lengths,
        which no predictor can beat on average. Lower is better.
    """),
    "scores": _flow("""
        Filled dots: held-out R² of the headline site, fixed in the config before training; the bar is the range over
        fold seeds (and training seeds, if several). Open dots: untrained copies, the best one ringed: the score to
        beat. Crosses: 95th percentile of shuffled beliefs. Dashed lines: what needs no model at all. The axis is
        logarithmic in 1 - R²: each tick to the right leaves about half as much unexplained; scores at or below zero
        stand at its left end, and an arrow marks a control beyond its right end.
    """),
    "iterations": _flow("""
        Predictive-coding models only, stopped after a number of iterations per token of the solver that the config
        names for this (evaluation.iteration_solver); the diamond is the equilibrium, the answer that every other number of this report uses. Left: held-out R², words weighted by
        probability. Right: exact excess loss (log axis). Below: the decoded beliefs, coloured by true belief, coming
        into focus.
    """),
    "cost": _flow("""
        Latency: median, with a whisker to the 90th percentile. Sequential depth: the longest chain of dependent matrix
        products. All axes are logarithmic and begin at an arbitrary power of ten: compare the numbers, not the lengths
        of the bars. Lower is better.
    """),
}
TABLES = {
    "summary": _flow("""
        Beyond every control: the calibrated verdict on the headline site; yes if it says more of the belief than the exact
        next-token law, the last tokens, additive history, constrained belief, the model's own predictions and all untrained
        networks, no if not, not decidable where a control determines the belief. Excess loss: above the exact Bayesian observer, at equilibrium. R²: held out, headline site against the belief,
        words weighted by probability / equally. Untrained: the best of all copies. Shuffled: beliefs permuted among
        words. FLOPs, latency, iterations and depth: one sequence, batch 1.
    """),
    "controls": _flow("""
        Target: the filtered belief. Median, with the range over fold seeds (shuffled: over permutations; untrained:
        over copies) in brackets. Population oracle: fitted and scored on all words weighted by probability, the most
        that the control can reach. n_eff: effective number of words when weighted by probability.
    """),
    "sites": _flow("""
        Medians over fold seeds and training seeds, at equilibrium. The starred site is the one fixed in the config
        beforehand.
    """),
    "lengths": "Held-out R² by word length: fitted on all lengths, scored on each; too few: under {} words.",
    "inference": "Every token of every word is one inference problem; none is left out of the scores.",
    "checks": "Each number computed a second way; it passes where the difference is within what is allowed.",
    "cost": "Latency is for the whole batch. Depth: the longest chain of dependent matrix products.",
}
ABSENT = {
    "simplex": "The simplex figure is not there yet: it needs geometry/truth.npz and the decoded beliefs of a model.",
    "training": "The training figure is not there yet: training.csv has no complete row.",
    "scores": "The figure of scores is not there yet: probes.csv has no row of a headline site.",
    "iterations": "There is no figure over inference iterations: no model was scored after a limited number of them.",
    "cost": "The cost figure is not there yet: cost.csv has no complete row.",
}
PROJECTION = _flow("""
    The process has {states} states: beliefs are shown on the first two principal axes of the true beliefs, the same for
    all panels.
""")
METHOD = _flow("""
    Rows are all words of lengths 1 to the context, once each, with exact probabilities and beliefs. A ridge regression
    from a site's activations to the belief is fitted with words weighted equally within a length and lengths equally;
    words of length 3 or less always train and are never scored; five folds times five fold seeds over the rest;
    features are standardised, and the ridge chosen, inside the training part. The score is the held-out,
    variance-weighted R² on lengths 4 and up, with words weighted by probability and equally; medians over fold seeds.
    A verdict tests the headline site against each control by permutations within what the control can't tell apart, or by
    its rank among untrained networks; the largest p value counts. Untrained copies use the same initialiser at scales .5, .9 and 1.2 with three seeds each; shuffled beliefs are
    permuted within length. Population oracles are fitted and scored on all words, so they are not held-out scores.
    Excess loss is the exact sum over words of probability times KL(exact next-token law || model), averaged over
    context lengths, in nats, without sampling. Numbers of predictive-coding models are taken at the equilibrium of
    inference: rms of the energy's gradient at most the tolerance in every node group.
""")
CONTROLS = {
    "next_token": "exact next-token law",
    "next_token+site": "exact next-token law and the site together",
    "last_token": "last token",
    "additive_history": "additive history",
    "constrained": "constrained belief",
    "softmax": "the model's own next-token law",
    "random_subspace": "random subspace of the same dimension",
    "shuffled": "shuffled beliefs, 95th percentile",
    "untrained copies": "its untrained copies",
    "other_process": "beliefs of other processes",
}


def control_name(control: str) -> str:
    """A control as a reader would call it."""
    return CONTROLS.get(control, control.replace("_", " "))

"""Moving the states of trained models to other beliefs."""

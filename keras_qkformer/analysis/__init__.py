"""Analysis of models: firing rates, operations, attention, and figures."""

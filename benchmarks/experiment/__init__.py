"""A fair fight among ways to train one student: what `benchmarks/ablation.py` is made of."""

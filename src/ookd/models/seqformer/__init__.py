"""SeqFormer, the published offline model."""

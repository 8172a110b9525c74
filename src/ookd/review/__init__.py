"""A local page on which people look at labels and mend them."""

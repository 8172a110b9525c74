"""Search for tracker constants on cached frame queries."""

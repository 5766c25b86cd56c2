"""Which samples are used: agreement with reference segmenters, random and quota controls, copies of real images."""

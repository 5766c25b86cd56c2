"""Selection of samples: agreement with reference segmenters, random and quota controls, copies of real images."""

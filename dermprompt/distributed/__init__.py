"""Several processes: launching ranks (launch), what happens if one dies (ranks), SLURM nodes (slurm)."""

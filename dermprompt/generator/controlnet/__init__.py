"""ControlNet: the base and its noise schedule (base), training (module), sampling (sampler, step_cache)."""

"""ControlNet: base with its noise schedule (base), training (module), sampling (sampler, step_cache)."""

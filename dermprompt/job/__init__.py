"""One job: the requested stage and what it needs (run), its run folder (summary), its W&B runs (dashboard)."""

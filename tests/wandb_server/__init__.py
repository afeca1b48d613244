"""A protocol double of the W&B server for the client release that pyproject.toml names.

`server.wandb_server` starts it as a process of its own. It answers what the unmodified client asks: every GraphQL
operation is validated against the schema and executed, keys are checked, and a commit refuses files that were not
uploaded. Written from observed traffic; what a real server does beyond that (quotas, TTL, registries, signed URLs) is
not here.
"""

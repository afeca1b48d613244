"""Jobs: processes that run one stage."""

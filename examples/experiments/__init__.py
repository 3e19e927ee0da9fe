"""The harness of RESULTS.md: what it compares, the training runs, tables and figures."""

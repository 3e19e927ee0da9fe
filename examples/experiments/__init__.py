"""The harness of RESULTS.md: what it compares, the trainings, tables and figures."""

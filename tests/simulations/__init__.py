"""Many audits of known models: how often equicheck is wrong. Each module runs by hand and, small, in the tests."""

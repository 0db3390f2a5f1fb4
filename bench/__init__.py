"""Benchmarks of cnnext's operations beside those of other libraries; see README.md here."""

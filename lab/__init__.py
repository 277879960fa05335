"""Guests with stock Debian kernels, for tests and for anyone who wants to try."""

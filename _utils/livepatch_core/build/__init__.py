"""A unified diff becomes a proven livepatch module for a stock kernel (docs/writing-patches.md)."""

"""Which features make a year's digit greater than the one before: `make finding` writes docs/greater-than.md."""

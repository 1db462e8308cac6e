"""What the commands share: parsing, options, what they print and where they write."""

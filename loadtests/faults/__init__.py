"""What Kairos does when parts of it fail: each fault a script with a stated outcome."""

"""What several test modules use. No test is here, and no test module imports another."""

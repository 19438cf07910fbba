"""Project -> Lock: Python packages, base images, bootstrapped distributions."""

"""``python -m sabot_ray`` is ``sabot-ray``."""

from sabot_ray.cli import main

if __name__ == "__main__":
    main()

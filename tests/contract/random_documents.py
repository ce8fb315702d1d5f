"""How often tests with made-up documents run, and where these come from.

Runs are the same every time, unless ``SABOT_RAY_EXAMPLES`` asks for that many random examples per
test.
"""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st

from tests.contract.json_documents import DocumentWriter

#: Examples that were asked for; 0: the usual ones.
EXAMPLES = int(os.environ.get("SABOT_RAY_EXAMPLES", "0"))

bounded = settings(
    max_examples=EXAMPLES or 300, derandomize=not EXAMPLES, database=None, deadline=None
)
writers = st.randoms(use_true_random=True).map(DocumentWriter)

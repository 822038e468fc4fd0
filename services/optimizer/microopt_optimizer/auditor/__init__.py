"""What came of what was asked: answers of shadows, assurances of SLAs, margins, and verdicts on canaries."""

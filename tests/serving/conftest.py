"""What tests of serving share: tiny policies, quick breakers."""

from local_servers import quick
from tiny_policies import chat_policy, policy

__all__ = ["chat_policy", "policy", "quick"]

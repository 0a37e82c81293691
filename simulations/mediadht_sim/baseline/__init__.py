"""The `kademlia` package (2.2.3, asyncio, UDP), unmodified, on the simulated network: what one would pick instead.

Needs the packages of the extra `bench`; nothing else of `mediadht_sim` imports this one.
"""

from mediadht_sim.baseline.run import BaselinePhase, BaselineResult, run_baseline

__all__ = ["BaselinePhase", "BaselineResult", "run_baseline"]

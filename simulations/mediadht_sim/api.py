"""For notebooks and studies: a scenario in, results out, without the command line."""

from mediadht_sim.run import RunResult, Simulation, run
from mediadht_sim.scenario import Scenario
from mediadht_sim.scenario_file import load_scenario
from mediadht_sim.tables import Results, read_results, write_results

__all__ = ["Results", "RunResult", "Scenario", "Simulation", "load_scenario", "read_results", "run", "write_results"]

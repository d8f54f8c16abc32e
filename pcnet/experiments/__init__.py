"""Experiments: what is asked, who does the work, and where the results are kept.

An `Experiment` is a class: its constructor's arguments are the settings, `jobs` lists the work, `schema` the tables, and
`report` draws what there is to look at. One harness does the rest for all of them: settings from YAML or the command line,
a folder that resumes and is locked, worker processes, progress, exit codes.

    class Coin(Experiment):
        name, schema = "coin", Schema(tosses="side:text count")
        def jobs(self): return [Job("tosses", self.toss)]
        def toss(self, files, told): return {"tosses": pd.DataFrame({"side": ["heads", "tails"], "count": [4, 6]})}
        def report(self, folder): return folder.table("tosses").to_string()

    if __name__ == "__main__":
        sys.exit(command("my_module.Coin"))

`pcnet compare FILE.yaml` runs any of them too; the file names the class under `class_path` and its arguments under `init_args`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

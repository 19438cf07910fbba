"""reprobox: from a project folder to a container image that anyone can rebuild bit for bit.

The rooms, from the ground up. A module imports only from rows above its own; a test holds this
table against the real imports.

=============  ==============================================================================
room           what it makes of what
=============  ==============================================================================
errors         what happened, what to do, which exit code
model          the nouns: values only
resources      where packaged data (templates) lives
proc           the only place that starts a process
files          whole files or none: write beside, then rename; one process per project at a time
cache          content-addressed files under the user's cache folder
credentials    in addresses: left out, masked in every word, shown to the server they are for
image_note     which image was built of a project last
web            one HTTP request, patiently: redirects, retries, limits, nothing secret in an error
registry       the registry's protocol: references, digests, blobs
console        words, tables and progress on the terminal
config_yaml    reprobox.yaml's bytes -> plain values, each with its line
config_model   reprobox.yaml's keys: their types, their limits, their words
config_memory  what was found valid before
config         reprobox.yaml -> Project
survey         a folder's files -> what they say, with lines
tree           a checkout -> ProjectTree: which files are the project's, normalised
lockfile       Lock <-> reprobox.lock; does the lock still fit
baseline       Baseline <-> reprobox.baseline.json
determinism    a profile -> the variables that pin an experiment
hardware       what was read inside the container -> Conditions, hardware class (pure)
recipe         Project, Lock -> Recipe (pure)
render         Recipe -> Context (pure; Jinja lives here only)
compare        two outputs -> Verdict (pure)
resolvers      Project -> Lock: Python packages, base images, bootstrapped distributions
lint           what cannot be reproduced as it stands
draft          a folder -> the first draft of its reprobox.yaml
engines        Context -> Image; Image, Job -> Completed
probe          Image -> Conditions: what its libraries do on this machine, read inside
experiment     Image, smoke -> Run
doctor         this machine -> diagnoses: what reprobox needs, whether it is here, what to do
report         what a verb found -> the page that a person reads, JSON, Markdown
workflow       the verbs, in order
streams        the three streams as the caller left them
command_line   what the verbs' words have in common: options, examples, order, completion
cli            arguments in, exit codes out (click lives in these two only)
=============  ==============================================================================
"""

__version__ = "0.1.0"

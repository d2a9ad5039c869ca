//! Runs the fuzz targets on every core: workers are processes of their own, so that one that aborts, takes too much memory or
//! does not end is a finding, too.

use clap::Parser;
use engine_fuzz::watch::{self, Findings, Position, Progress};
use engine_fuzz::{TARGETS, Target, onnx};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long a worker stays with a target before it goes on to the next.
const SLICE: Duration = Duration::from_millis(500);

/// How often workers are looked at, and how often that is told.
const LOOK: Duration = Duration::from_millis(200);
const TELL: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error>;

#[derive(Clone, Debug, Parser)]
#[command(about = "Runs the fuzz targets on every core")]
struct Arguments {
    /// Only these targets; all if none is named.
    targets: Vec<String>,
    /// Lists the targets.
    #[arg(long)]
    list: bool,
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Ends earlier, after that many cases over all targets.
    #[arg(long)]
    executions: Option<u64>,
    /// Workers; one for each core if not said.
    #[arg(long)]
    threads: Option<usize>,
    /// Other seeds are other cases.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A folder whose `.onnx` files become models to start from.
    #[arg(long)]
    seeds: Option<PathBuf>,
    /// Where findings are written.
    #[arg(long, default_value = "findings")]
    out: PathBuf,
    /// MiB of addresses that a worker may take.
    #[arg(long, default_value_t = 4096)]
    memory: u64,
    /// Seconds after which a case that did not end is a finding.
    #[arg(long, default_value_t = 20)]
    stall: u64,
    /// Runs one kept case (its file `choices`) of the one named target, in this process.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Which worker this is.
    #[arg(long, hide = true, requires = "progress")]
    worker: Option<u64>,
    /// Where a worker writes how far it is.
    #[arg(long, hide = true)]
    progress: Option<PathBuf>,
}

impl Arguments {
    fn targets(&self) -> Result<Vec<&'static Target>, Failure> {
        if self.targets.is_empty() {
            return Ok(TARGETS.iter().collect());
        }
        let named = |name: &String| {
            Target::named(name)
                .ok_or_else(|| format!("no target is called {name:?}; --list shows them").into())
        };
        self.targets.iter().map(named).collect()
    }

    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores).max(1)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.replay, arguments.worker) {
        _ if arguments.list => {
            TARGETS.iter().for_each(|target| println!("{:18} {}", target.name, target.about));
            Ok(true)
        }
        (Some(file), _) => replay(&arguments, file),
        (None, Some(worker)) => work(&arguments, worker).map(|()| true),
        (None, None) => drive(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn replay(arguments: &Arguments, file: &Path) -> Result<bool, Failure> {
    add_seeds(arguments)?;
    let [target] = arguments.targets()?[..] else { return Err("name one target".into()) };
    let ended = watch::run(target, &std::fs::read(file)?);
    println!("{}: {}", target.name, ended.as_ref().err().map_or("nothing found", |why| why));
    Ok(ended.is_ok())
}

fn add_seeds(arguments: &Arguments) -> Result<(), Failure> {
    arguments.seeds.as_ref().map_or(Ok(()), |folder| Ok(onnx::seeds::add(folder).map(drop)?))
}

/// The case that a worker comes to after `before` others of the target.
fn index(arguments: &Arguments, worker: u64, before: u64) -> u64 {
    before * arguments.threads() as u64 + worker
}

/// What a worker does until it is ended.
fn work(arguments: &Arguments, worker: u64) -> Result<(), Failure> {
    add_seeds(arguments)?;
    let targets = arguments.targets()?;
    let path = arguments.progress.as_ref().ok_or("a worker needs a place for its progress")?;
    let mut progress = Progress::open(path, targets.len())?;
    let findings = Findings::new(arguments.out.clone());
    loop {
        for (at, target) in targets.iter().enumerate() {
            let begun = Instant::now();
            while begun.elapsed() < SLICE {
                let before = progress.begin(at)?;
                let case = target.case(arguments.seed, index(arguments, worker, before));
                if let Err(message) = watch::run(target, &case) {
                    findings.keep(target, &case, &message)?;
                }
            }
        }
    }
}

/// A worker as it is seen from outside.
struct Watched {
    worker: u64,
    child: Child,
    progress: PathBuf,
    errors: PathBuf,
    position: Position,
    moved: Instant,
}

impl Watched {
    fn start(arguments: &Arguments, folder: &Path, worker: u64) -> Result<Self, Failure> {
        let progress = folder.join(format!("{worker}.progress"));
        let errors = folder.join(format!("{worker}.errors"));
        let program = std::env::current_exe()?;
        let mut command = if cfg!(unix) {
            // A shell is what can limit memory without a library.
            let mut shell = Command::new("sh");
            let limit = format!("ulimit -v {}; exec \"$0\" \"$@\"", arguments.memory << 10);
            shell.arg("-c").arg(limit).arg(program);
            shell
        } else {
            Command::new(program)
        };
        command.args(&arguments.targets);
        command.arg("--worker").arg(worker.to_string()).arg("--progress").arg(&progress);
        command.arg("--threads").arg(arguments.threads().to_string());
        command.arg("--seed").arg(arguments.seed.to_string());
        command.arg("--out").arg(&arguments.out);
        if let Some(seeds) = &arguments.seeds {
            command.arg("--seeds").arg(seeds);
        }
        // One thread each, and files of cases in memory where there is such a folder.
        command.env("RAYON_NUM_THREADS", "1");
        let memory = Path::new("/dev/shm");
        command.env("TMPDIR", if memory.is_dir() { memory } else { folder });
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors)?);
        let (child, moved) = (command.spawn()?, Instant::now());
        Ok(Self { worker, child, progress, errors, position: Position::default(), moved })
    }

    /// Looks after the worker. Gives why it ended or has to be ended, if so.
    fn look(&mut self, stall: Duration) -> Result<Option<String>, Failure> {
        let position = Position::read(&self.progress)?;
        if position != self.position {
            (self.position, self.moved) = (position, Instant::now());
        }
        if let Some(status) = self.child.try_wait()? {
            self.position = Position::read(&self.progress)?;
            let errors = std::fs::read_to_string(&self.errors)?;
            let last = errors.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
            return Ok(Some(format!("ended with {status}: {last}")));
        }
        if self.moved.elapsed() < stall {
            return Ok(None);
        }
        self.end();
        Ok(Some(format!("did not end: after {} seconds", stall.as_secs())))
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The case that it was at.
    fn case(
        &self,
        arguments: &Arguments,
        targets: &[&'static Target],
    ) -> Option<(&'static Target, Vec<u8>)> {
        let target = *targets.get(self.position.target)?;
        let before = self.position.begun.get(self.position.target)?.checked_sub(1)?;
        Some((target, target.case(arguments.seed, index(arguments, self.worker, before))))
    }
}

/// Starts workers, watches them and starts them anew; then says what was done and found. Gives whether nothing was found.
fn drive(arguments: &Arguments) -> Result<bool, Failure> {
    let targets = arguments.targets()?;
    let folder = tempfile::tempdir()?;
    let findings = Findings::new(arguments.out.clone());
    let begun = Instant::now();
    let (end, mut told) = (begun + Duration::from_secs_f64(arguments.minutes * 60.0), begun);
    let workers = 0..arguments.threads() as u64;
    let mut workers: Vec<Watched> = workers
        .map(|worker| Watched::start(arguments, folder.path(), worker))
        .collect::<Result<_, _>>()?;
    let mut counts = vec![0; targets.len()];
    while Instant::now() < end
        && arguments.executions.is_none_or(|n| counts.iter().sum::<u64>() < n)
    {
        std::thread::sleep(LOOK);
        for watched in &mut workers {
            let Some(why) = watched.look(Duration::from_secs(arguments.stall))? else { continue };
            match watched.case(arguments, &targets) {
                Some((target, case)) => drop(findings.keep(target, &case, &why)?),
                None => return Err(format!("a worker {why}").into()),
            }
            *watched = Watched::start(arguments, folder.path(), watched.worker)?;
        }
        counts.fill(0);
        for watched in &workers {
            let begun = &Position::read(&watched.progress)?.begun;
            counts.iter_mut().zip(begun).for_each(|(sum, begun)| *sum += begun);
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            let found: usize = findings.all()?.values().map(Vec::len).sum();
            let (sum, seconds) = (counts.iter().sum::<u64>(), begun.elapsed().as_secs());
            println!("{seconds} s: {sum} cases, {found} findings");
        }
    }
    workers.iter_mut().for_each(Watched::end);
    report(&targets, &counts, &findings)
}

fn report(targets: &[&Target], counts: &[u64], findings: &Findings) -> Result<bool, Failure> {
    let found = findings.all()?;
    for (target, count) in targets.iter().zip(counts) {
        let lines = found.get(target.name).map_or(&[][..], Vec::as_slice);
        println!("{:18} {count:>12} cases, {} findings", target.name, lines.len());
        lines.iter().for_each(|line| println!("    {line}"));
    }
    println!("{:18} {:>12} cases", "all", counts.iter().sum::<u64>());
    Ok(targets.iter().all(|target| !found.contains_key(target.name)))
}

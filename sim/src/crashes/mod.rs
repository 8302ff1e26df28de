//! Runs a program, crashes it at every call in every way, and judges what survives: see [`CrashTest`].

mod repair;
mod report;

use std::{
    any::Any,
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    error::Error,
    fmt,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
};

pub use self::{
    repair::{Barrier, Repair},
    report::{Crash, Finding, How, Report},
};
use crate::{
    choices::{Choices, Mismatch},
    disk::{Disk, Fate, Lies, Mount, OpInfo, Profile, Tearing},
    exhaustive::Exhaustive,
    trace::Trace,
};

/// What a program or its setup answers.
pub type RunResult = Result<(), Box<dyn Error>>;

/// One run of the program under test.
#[derive(Debug)]
pub struct Run {
    disk: Disk,
    mount: Mount,
    /// For each acknowledgement, how many mutating calls of this life came before it.
    acknowledged: RefCell<Vec<usize>>,
    before: u64,
}

impl Run {
    fn new(disk: &Disk) -> Self {
        let (mount, before) = (disk.mount(), disk.mutations());
        Self { disk: disk.clone(), mount, acknowledged: RefCell::default(), before }
    }

    /// The files of this run.
    pub fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Tells the world outside that something is done: from here on a crash must not undo it. The judge gets
    /// the number of times as [`Survivor::acknowledged`].
    pub fn acknowledge(&self) {
        // A sync that fails is one that was not made, which the comparison of the calls will notice.
        let _ = self.disk.make_due_syncs();
        self.acknowledged.borrow_mut().push((self.disk.mutations() - self.before) as usize);
    }
}

/// What is left after a crash, for a judge to look at. It is the judge's own: it may run the program's recovery
/// on it, write to it, and go on with the program.
#[derive(Debug)]
pub struct Survivor {
    disk: Disk,
    acknowledged: u64,
    finished: bool,
}

impl Survivor {
    /// The disk, for looking without calling.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The files, for the program's next life.
    pub fn mount(&self) -> Mount {
        self.disk.mount()
    }

    /// The content of a file; `None` if it is not there.
    pub fn peek(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.peek(path)
    }

    /// How often [`Run::acknowledge`] was called before the crash.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether the program had come to its end before the crash, and nobody was left in doubt.
    pub fn finished(&self) -> bool {
        self.finished
    }
}

/// Why a crash test could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CrashTestError {
    /// What is there before the program could not be made.
    #[error("the setup fails: {0}")]
    Setup(Box<dyn Error>),
    /// The program fails on a healthy disk.
    #[error("the program fails although nothing crashes: {0}")]
    Program(Box<dyn Error>),
    /// A crash did not repeat: the program, or the judge's recovery, is not deterministic.
    #[error("a crash does not repeat: {0}")]
    Tape(#[from] Mismatch),
    /// A run has made other calls than before: the program, or the judge's recovery, is not deterministic.
    #[error("a run does not repeat: after {calls} calls it goes on otherwise than before")]
    Calls {
        /// How many calls were the same.
        calls: usize,
    },
    /// The judge, or the recovery in it, panicked, and the search ended.
    #[error("the judge panicked: {message}{}", .crashes.iter().map(|crash| format!("\n{crash}")).collect::<String>())]
    Panicked {
        /// With what.
        message: String,
        /// What led there.
        crashes: Vec<Crash>,
    },
}

/// Runs a program once, and judges what every crash at every mutating call of it can leave: a process crash,
/// which keeps what is pending, and each legal outcome of a power loss.
///
/// The program gets a [`Run`], works on its [`Mount`] and says with [`Run::acknowledge`] what may not be lost
/// any more. The judge gets a [`Survivor`], runs what recovery there is, and says what is wrong with it. It
/// must accept all that is right: an operation in flight has either happened or not. Both have to be
/// deterministic.
///
/// ```
/// use sim::crashes::CrashTest;
///
/// let test = CrashTest::new(
///     |run| {
///         let file = run.mount().create_new("/a")?;
///         file.write_at(0, b"hello")?;
///         Ok(file.sync()?)
///     },
///     |survivor| match survivor.peek("/a") {
///         Some(bytes) if survivor.finished() && bytes != b"hello" => Err("cut short"),
///         None if survivor.finished() => Err("gone"),
///         _ => Ok(()),
///     },
/// );
/// let report = test.check()?;
/// assert_eq!(report.findings[0].bad, "gone");
/// let repair = test.repair(1)?.expect("one barrier is enough");
/// assert_eq!(repair.barriers[0].to_string(), "sync_dir /, between create /a and write /a");
/// # Ok::<(), sim::crashes::CrashTestError>(())
/// ```
pub struct CrashTest<P, J> {
    program: P,
    judge: J,
    setup: Box<dyn Fn(&Mount) -> RunResult>,
    profile: Profile,
    tearing: Tearing,
    lies: Lies,
    ways_max: u64,
    recovery_depth: u32,
}

impl<P, J> CrashTest<P, J> {
    /// A test of this program by this judge, on an empty disk with the default profile.
    pub fn new<E>(program: P, judge: J) -> Self
    where
        P: Fn(&Run) -> RunResult,
        J: Fn(&Survivor) -> Result<(), E>,
    {
        Self {
            program,
            judge,
            setup: Box::new(|_| Ok(())),
            profile: Profile::default(),
            tearing: Tearing::default(),
            lies: Lies::NONE,
            ways_max: 10_000,
            recovery_depth: 0,
        }
    }

    /// What is there, durably, before the program begins.
    #[must_use]
    pub fn setup(self, setup: impl Fn(&Mount) -> RunResult + 'static) -> Self {
        Self { setup: Box::new(setup), ..self }
    }

    /// How adversarial the disk is; `posix` unless told otherwise.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// What can become of the parts of one write; [`Tearing::Sectors`] unless told otherwise.
    #[must_use]
    pub fn tearing(self, tearing: Tearing) -> Self {
        Self { tearing, ..self }
    }

    /// Breaks promises of the disk, to see whether the judge notices; none unless told otherwise.
    #[must_use]
    pub fn lies(self, lies: Lies) -> Self {
        Self { lies, ..self }
    }

    /// At each call so many ways to lose power are walked, 10,000 unless told otherwise. Where there are more,
    /// as many again are drawn from fixed seeds, and the report counts the place as `sampled`.
    #[must_use]
    pub fn ways_max(self, ways_max: u64) -> Self {
        Self { ways_max, ..self }
    }

    /// How often in a row recovery, which is what the judge calls, is itself crashed at every call; not at all
    /// unless told otherwise.
    #[must_use]
    pub fn recovery_depth(self, recovery_depth: u32) -> Self {
        Self { recovery_depth, ..self }
    }
}

impl<P, J, E> CrashTest<P, J>
where
    P: Fn(&Run) -> RunResult,
    J: Fn(&Survivor) -> Result<(), E>,
    E: Ord + fmt::Display,
{
    /// Crashes the program everywhere.
    ///
    /// # Errors
    /// If setup or program fail without any crash, or a crash does not repeat.
    pub fn check(&self) -> Result<Report<E>, CrashTestError> {
        let life = self.record(&[])?;
        self.explore(life, false)
    }

    /// The smallest set of syncs, of at most so many, with which nothing is found any more: `None` if there is
    /// none, and an empty one if nothing is found anyway.
    ///
    /// Tried are syncs of files and directories after calls that leave something to be synced. The number of
    /// sets grows with the program's calls to the power of `barriers_max`.
    ///
    /// # Errors
    /// Those of [`CrashTest::check`], and if the program makes other calls in one run than in another.
    pub fn repair(&self, barriers_max: usize) -> Result<Option<Repair>, CrashTestError> {
        repair::search(self, barriers_max)
    }

    /// The survivor of a [`Finding`], for a closer look: runs the program again and crashes it in the same way.
    ///
    /// # Errors
    /// Those of [`CrashTest::check`], and if the run does not come to the same crash.
    pub fn replay(&self, crashes: &[Crash]) -> Result<Survivor, CrashTestError> {
        let mut life = self.record(&[])?;
        let mut survivor = life.survivor(life.frames.len() - 1);
        for (at, crash) in crashes.iter().enumerate() {
            if at > 0 {
                let judged = self.judge(&mut survivor).1;
                life = Life { frames: judged, ..life };
            }
            let calls = crash.after.len();
            let same = |frame: &Frame| frame.next == crash.before;
            if !life.frames.get(calls).is_some_and(same) {
                return Err(CrashTestError::Calls { calls });
            }
            survivor = life.survivor(calls);
            match &crash.how {
                How::Process => survivor.disk.process_crash(),
                How::Power { tape, .. } => {
                    let mut choices = Choices::replayed(tape.clone());
                    survivor.disk.power_loss(&mut choices);
                    choices.finish()?;
                }
            }
        }
        Ok(survivor)
    }

    /// Runs the program with these syncs added.
    fn record(&self, barriers: &[Barrier]) -> Result<Life, CrashTestError> {
        let disk = Disk::with(self.profile, self.lies, Trace::hashing());
        disk.set_tearing(self.tearing);
        (self.setup)(&disk.mount()).map_err(CrashTestError::Setup)?;
        // The calmest crash keeps all of it, and makes it durable.
        disk.power_loss(&mut Choices::bytes(&[]));
        disk.insert_syncs(barriers.iter().map(|barrier| (barrier.place, barrier.sync.clone())).collect());
        disk.keep_checkpoints(true);
        let run = Run::new(&disk);
        (self.program)(&run).map_err(CrashTestError::Program)?;
        disk.make_due_syncs().map_err(|error| CrashTestError::Program(error.into()))?;
        let end = Frame { next: None, disk: disk.fork() };
        let frames = Frame::all(&disk).chain([end]).collect();
        Ok(Life { frames, acknowledged: run.acknowledged.into_inner(), is_program: true, told: (0, false) })
    }

    /// Judges a survivor, and gives what recovery did on the way.
    fn judge(&self, survivor: &mut Survivor) -> (Result<(), E>, Vec<Frame>) {
        survivor.disk.keep_checkpoints(true);
        let verdict = (self.judge)(survivor);
        (verdict, Frame::all(&survivor.disk).collect())
    }

    /// Crashes a life everywhere, and, if asked to, the recoveries after it; ends early at the first finding
    /// if only that is asked for.
    fn explore(&self, life: Life, first_only: bool) -> Result<Report<E>, CrashTestError> {
        let mut report = Report::new(self.profile, life.calls());
        let mut seen = BTreeSet::new();
        let mut lives = VecDeque::from([(Rc::new(life), Vec::new())]);
        let mut panicked = None;
        while let Some((life, past)) = lives.pop_front() {
            report.places += life.frames.len() as u64;
            for at in 0..life.frames.len() {
                self.crash_in_every_way(&life, at, &mut report, |report, mut survivor, how, lost| {
                    report.crashes += 1;
                    let digest = survivor.disk.snapshot().digest();
                    if panicked.is_some() || !seen.insert((digest, survivor.acknowledged, survivor.finished))
                    {
                        return;
                    }
                    report.states += 1;
                    let told = (survivor.acknowledged, survivor.finished);
                    let mut path = past.clone();
                    path.push(Step { life: Rc::clone(&life), at, how, lost });
                    let judged = panic::catch_unwind(AssertUnwindSafe(|| self.judge(&mut survivor)));
                    match judged {
                        Err(panic) => {
                            let crashes = path.iter().map(Step::crash).collect();
                            let message = message(panic.as_ref());
                            panicked = Some(CrashTestError::Panicked { message, crashes });
                        }
                        Ok((Err(bad), _)) => report.note(bad, &path),
                        Ok((Ok(()), frames)) if past.len() < self.recovery_depth as usize => {
                            let next = Life { frames, acknowledged: Vec::new(), is_program: false, told };
                            lives.push_back((Rc::new(next), path));
                        }
                        Ok((Ok(()), _)) => {}
                    }
                })?;
                if let Some(panicked) = panicked {
                    return Err(panicked);
                }
                if first_only && !report.findings.is_empty() {
                    return Ok(report);
                }
            }
        }
        report.sort();
        Ok(report)
    }

    /// Hands over each survivor of one place: of a process crash, and of every power loss.
    fn crash_in_every_way(
        &self,
        life: &Life,
        at: usize,
        report: &mut Report<E>,
        mut found: impl FnMut(&mut Report<E>, Survivor, How, usize),
    ) -> Result<(), CrashTestError> {
        let process = life.survivor(at);
        process.disk.process_crash();
        found(report, process, How::Process, 0);
        let mut power = |choices: &mut Choices, report: &mut Report<E>| {
            let survivor = life.survivor(at);
            let crash = survivor.disk.power_loss(choices);
            let lost = crash.iter().filter(|(_, fate)| *fate != Fate::Kept).count();
            let fates = crash.describe().into_iter().zip(&crash.fates);
            let fates = fates.map(|(op, fate)| format!("{op}: {fate}")).collect();
            let how = How::Power { tape: choices.tape().clone(), fates };
            found(report, survivor, how, lost);
        };
        let mut walk = Exhaustive::limited(self.ways_max);
        while let Some(mut choices) = walk.begin() {
            power(&mut choices, report);
            walk.end(choices)?;
        }
        if !walk.is_complete() {
            report.sampled += 1;
            for seed in 0..self.ways_max {
                power(&mut Choices::seeded(seed), report);
            }
        }
        Ok(())
    }
}

impl<P, J> fmt::Debug for CrashTest<P, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashTest").field("profile", &self.profile).finish_non_exhaustive()
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// The disk before one mutating call, or at the end of a program.
#[derive(Debug)]
struct Frame {
    next: Option<OpInfo>,
    disk: Disk,
}

impl Frame {
    fn all(disk: &Disk) -> impl Iterator<Item = Self> {
        disk.take_checkpoints().into_iter().map(|point| Self { next: Some(point.op), disk: point.disk })
    }
}

/// One life that was recorded: the program's, or that of a recovery.
#[derive(Debug)]
struct Life {
    frames: Vec<Frame>,
    acknowledged: Vec<usize>,
    is_program: bool,
    /// What was told before this life: how much was acknowledged, and whether the program was finished.
    told: (u64, bool),
}

impl Life {
    /// The disk of a place, with nothing decided yet.
    fn survivor(&self, at: usize) -> Survivor {
        let frame = &self.frames[at];
        let told = self.acknowledged.iter().filter(|calls| **calls <= at).count() as u64;
        let (before, finished) = self.told;
        let at_the_end = self.is_program && frame.next.is_none();
        Survivor { disk: frame.disk.fork(), acknowledged: before + told, finished: finished || at_the_end }
    }

    fn calls(&self) -> Vec<OpInfo> {
        self.frames.iter().filter_map(|frame| frame.next.clone()).collect()
    }
}

/// A crash on the way to a state, in short.
#[derive(Clone, Debug)]
struct Step {
    life: Rc<Life>,
    at: usize,
    how: How,
    /// How many pending operations did not survive whole.
    lost: usize,
}

impl Step {
    fn crash(&self) -> Crash {
        let calls = &self.life.frames[..=self.at];
        let mut after: Vec<OpInfo> = calls.iter().filter_map(|frame| frame.next.clone()).collect();
        let before = self.life.frames[self.at].next.clone();
        if before.is_some() {
            after.pop();
        }
        Crash { after, before, how: self.how.clone() }
    }
}

//! `cargo sim prove`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::report::rate;
use super::sweep::shortened;
use super::{Exit, Format, ProveArgs, complain, cores, now};
use crate::form::Form;
use crate::prove::{self, Finding, Proof, States, Terms, script};

#[derive(Debug, Serialize)]
struct ProveReport {
    command: &'static str,
    subject: &'static str,
    profile: &'static str,
    errors: &'static str,
    complete: bool,
    jobs: usize,
    seconds: f64,
    states_per_second_per_core: f64,
    floor_states_per_second_per_core: f64,
    proofs: Vec<ProofReport>,
    violations: u64,
}

#[derive(Debug, Serialize)]
struct ProofReport {
    scenario: String,
    logs: u64,
    distinct_logs: u64,
    complete: bool,
    assumes: Vec<&'static str>,
    states: States,
    recovery_depth_max: u64,
    digest: String,
    seconds: f64,
    findings: Vec<FindingReport>,
}

#[derive(Debug, Serialize)]
struct FindingReport {
    fingerprint: String,
    invariant: &'static str,
    states_hit: u64,
    log: String,
    path: Vec<String>,
    reproduce: String,
    #[serde(skip)]
    evidence: String,
}

/// What a certificate says, and a second run has to come to as well.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Certificate {
    subject: String,
    profile: String,
    errors: String,
    complete: bool,
    proofs: Vec<CertifiedProof>,
    violations: u64,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct CertifiedProof {
    scenario: String,
    logs: u64,
    distinct_logs: u64,
    complete: bool,
    assumes: Vec<String>,
    states: States,
    recovery_depth_max: u64,
    digest: String,
    findings: Vec<CertifiedFinding>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct CertifiedFinding {
    fingerprint: String,
    states_hit: u64,
}

pub(super) fn main(args: &ProveArgs, out: &mut impl Write) -> io::Result<Exit> {
    let logs = match logs(args) {
        Ok(logs) => logs,
        Err(message) => {
            complain(&message);
            return Ok(Exit::Usage);
        }
    };
    let certificate = match args.verify.as_deref().map(certificate).transpose() {
        Ok(certificate) => certificate,
        Err(message) => {
            complain(&message);
            return Ok(Exit::HarnessFailed);
        }
    };
    let report = run(args, &logs);
    match args.format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
        Format::Text => text(&report, out)?,
    }
    if let (Some(certificate), Some(path)) = (certificate, &args.verify) {
        match compare(&certificate, &report) {
            Ok(()) => complain(&format!("{}: verified, this run came to the same", path.display())),
            Err(message) => {
                complain(&format!("{}: NOT verified: {message}", path.display()));
                return Ok(Exit::HarnessFailed);
            }
        }
    }
    if let Some(path) = &args.out {
        let mut bytes = serde_json::to_vec_pretty(&report).expect("strings and numbers always serialise");
        bytes.push(b'\n');
        if let Err(error) = fs::write(path, bytes) {
            complain(&format!("{}: cannot be written: {error}", path.display()));
            return Ok(Exit::HarnessFailed);
        }
    }
    Ok(if report.violations > 0 { Exit::Violation } else { Exit::Clean })
}

type Logs = Vec<(&'static str, Vec<Form>)>;

fn logs(args: &ProveArgs) -> Result<Logs, String> {
    let named = script::named();
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = args.log.iter().find(|log| !names.contains(&log.as_str())) {
        return Err(format!("there is no log {unknown:?}; there are: {}", names.join(", ")));
    }
    let chosen = |name: &str| args.log.is_empty() || args.log.iter().any(|log| log == name);
    Ok(named.into_iter().filter(|(name, _)| chosen(name)).collect())
}

fn run(args: &ProveArgs, logs: &Logs) -> ProveReport {
    let jobs = args.jobs.map_or_else(cores, usize::from);
    let (subject, profile) = (args.setup.subject(), args.setup.profile());
    let floor = floor();
    let began = now();
    let (stop, checked) = (AtomicBool::new(false), AtomicU64::new(0));
    let bar = ProgressBar::new_spinner().with_prefix("prove");
    let style = "{prefix:8} {spinner} {human_pos} states, {per_sec}, {elapsed}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    let progress = |states| {
        checked.fetch_add(states, Ordering::Relaxed);
        bar.inc(states);
    };
    let terms = Terms {
        subject,
        profile,
        lies: args.setup.lies(),
        errors: args.errors(),
        garbled: args.garbled,
        first_only: false,
        stop: &stop,
        progress: &progress,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build().expect("threads can be started");
    let timed = |prove: &dyn Fn() -> Proof| {
        let began = now();
        (prove(), began.elapsed().as_secs_f64())
    };
    let finished = AtomicBool::new(false);
    let proofs: Vec<(Proof, f64)> = thread::scope(|scope| {
        if let Some(limit) = args.time_limit {
            let (stop, finished) = (&stop, &finished);
            scope.spawn(move || watch(limit.0, began, stop, finished));
        }
        let proofs = pool.install(|| match args.all_logs {
            Some(length) => vec![timed(&|| prove::every_log(terms, length.into()))],
            None => logs
                .par_iter()
                .with_max_len(1)
                .map(|(name, forms)| timed(&|| prove::one_log(terms, name, forms)))
                .collect(),
        });
        finished.store(true, Ordering::Relaxed);
        proofs
    });
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    // Logs are closed side by side, and the last one alone.
    let cpu = match args.all_logs {
        Some(_) => seconds * jobs as f64,
        None => proofs.iter().map(|(_, seconds)| seconds).sum(),
    };
    let proofs: Vec<ProofReport> =
        proofs.into_iter().map(|(proof, seconds)| ProofReport::new(proof, seconds, args)).collect();
    ProveReport {
        command: "prove",
        subject: subject.name(),
        profile: profile.name(),
        errors: args.errors().name(),
        complete: proofs.iter().all(|proof| proof.complete),
        jobs,
        seconds,
        states_per_second_per_core: rate(
            proofs.iter().map(|proof| proof.states.checked + proof.states.errors).sum(),
            cpu,
            1,
        ),
        floor_states_per_second_per_core: floor,
        violations: proofs.iter().map(|proof| proof.findings.len() as u64).sum(),
        proofs,
    }
}

/// Tells the proofs to stop when the time is over.
fn watch(limit: Duration, began: Instant, stop: &AtomicBool, finished: &AtomicBool) {
    while !finished.load(Ordering::Relaxed) {
        if began.elapsed() >= limit {
            stop.store(true, Ordering::Relaxed);
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Disks per second that a fork, an open of the database, a scan and a drop alone would allow.
fn floor() -> f64 {
    const ROUNDS: u32 = 4000;
    let one = prove::floor();
    let began = now();
    (0..ROUNDS).for_each(|_| one.round());
    rate(ROUNDS.into(), began.elapsed().as_secs_f64(), 1)
}

impl ProofReport {
    fn new(proof: Proof, seconds: f64, args: &ProveArgs) -> ProofReport {
        let which = match args.all_logs {
            Some(length) => format!("--all-logs {length}"),
            None => format!("--log {}", proof.log),
        };
        let errors = args.errors().name();
        let reproduce = format!("cargo sim prove {which} --errors {errors}{}", args.setup.options());
        let finding = |(fingerprint, found): (String, Finding)| FindingReport {
            fingerprint,
            invariant: found.invariant,
            states_hit: found.states_hit,
            log: found.log,
            path: found.path,
            reproduce: reproduce.clone(),
            evidence: found.evidence,
        };
        ProofReport {
            scenario: proof.log,
            logs: proof.logs,
            distinct_logs: proof.distinct_logs,
            complete: proof.complete,
            assumes: args.errors().assumes(),
            states: proof.states,
            recovery_depth_max: proof.recovery_depth_max,
            digest: format!("{:016x}", proof.digest),
            seconds,
            findings: proof.findings.into_iter().map(finding).collect(),
        }
    }
}

fn certificate(path: &Path) -> Result<Certificate, String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: not a certificate: {error}", path.display()))
}

/// A certificate holds if this run says the same of everything but time.
fn compare(certificate: &Certificate, report: &ProveReport) -> Result<(), String> {
    let text = serde_json::to_string(report).expect("strings and numbers always serialise");
    let found: Certificate = serde_json::from_str(&text).expect("a report is a certificate");
    let differ = |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
        Err(format!("{what}: the certificate says {expected:?}, this run {found:?}"))
    };
    if certificate.proofs.len() != found.proofs.len() {
        return differ("number of proofs", &certificate.proofs.len(), &found.proofs.len());
    }
    for (expected, found) in certificate.proofs.iter().zip(&found.proofs) {
        let name = &expected.scenario;
        if expected.states != found.states {
            return differ(&format!("states of {name}"), &expected.states, &found.states);
        }
        if expected.digest != found.digest {
            return differ(&format!("digest of {name}"), &expected.digest, &found.digest);
        }
        if expected != found {
            return differ(name, expected, found);
        }
    }
    match *certificate == found {
        true => Ok(()),
        false => differ("summary", certificate, &found),
    }
}

fn text(report: &ProveReport, out: &mut impl Write) -> io::Result<()> {
    let ProveReport { subject, profile, errors, jobs, .. } = report;
    writeln!(out, "subject {subject}, profile {profile}, errors {errors}, {jobs} jobs")?;
    writeln!(out)?;
    let columns = [
        "logs", "complete", "raw", "distinct", "checked", "expanded", "twins", "errors", "depth", "findings",
    ];
    write!(out, "{:22}", "log")?;
    columns.iter().try_for_each(|column| write!(out, "{column:>11}"))?;
    writeln!(out, "  digest")?;
    for proof in &report.proofs {
        let States { raw, distinct, checked, expanded, twins, errors, .. } = &proof.states;
        write!(out, "{:22}{:>11}{:>11}", proof.scenario, proof.logs, proof.complete)?;
        write!(out, "{raw:>11}{distinct:>11}{checked:>11}{expanded:>11}{twins:>11}{errors:>11}")?;
        writeln!(out, "{:>11}{:>11}  {}", proof.recovery_depth_max, proof.findings.len(), proof.digest)?;
    }
    for proof in &report.proofs {
        for finding in &proof.findings {
            writeln!(out)?;
            writeln!(out, "VIOLATION  {}", finding.fingerprint)?;
            writeln!(out, "  {} states show it; the shortest way there, with the log", finding.states_hit)?;
            writeln!(out, "    {}", finding.log)?;
            writeln!(out, "  is")?;
            finding.path.iter().try_for_each(|step| writeln!(out, "    {step}"))?;
            writeln!(out, "  {}", shortened(&finding.evidence))?;
            writeln!(out, "  {}", finding.reproduce)?;
        }
    }
    writeln!(out)?;
    let mut skipped = States::default();
    report.proofs.iter().for_each(|proof| skipped.add(&proof.states));
    if skipped.garbled > 0 {
        writeln!(out, "garbled: {} images, {} starts cleanly refused", skipped.garbled, skipped.refused)?;
    }
    skipped.skipped.iter().try_for_each(|(reason, count)| writeln!(out, "left out: {count} {reason}"))?;
    let state = if report.complete { "complete" } else { "NOT complete" };
    writeln!(
        out,
        "{} states checked, {state}, {} violations; {:.0} states a second and core, where the database alone allows {:.0}; {:.1} s",
        skipped.checked,
        report.violations,
        report.states_per_second_per_core,
        report.floor_states_per_second_per_core,
        report.seconds
    )
}

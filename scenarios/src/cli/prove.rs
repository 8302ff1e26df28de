//! `cargo sim prove`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::sweep::{cores, now};
use super::{Exit, Format, ProveArgs, complain};
use crate::form::Form;
use crate::prove::{self, ASSUMES, Proof, States, script};

#[derive(Debug, Serialize)]
struct ProveReport {
    command: &'static str,
    subject: &'static str,
    profile: &'static str,
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
    complete: bool,
    assumes: [&'static str; ASSUMES.len()],
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
    path: Vec<String>,
    reproduce: String,
    #[serde(skip)]
    evidence: String,
}

/// What a second run has to come to as well.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Certified {
    subject: String,
    profile: String,
    proofs: Vec<CertifiedProof>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct CertifiedProof {
    scenario: String,
    complete: bool,
    states: States,
    recovery_depth_max: u64,
    digest: String,
}

pub(super) fn main(args: &ProveArgs, out: &mut impl Write) -> io::Result<Exit> {
    let logs = match logs(args) {
        Ok(logs) => logs,
        Err(message) => {
            complain(&message);
            return Ok(Exit::Usage);
        }
    };
    let certified = match args.verify.as_deref().map(certified).transpose() {
        Ok(certified) => certified,
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
    if let Some(certified) = certified
        && let Err(message) = compare(&certified, &report)
    {
        complain(&message);
        return Ok(Exit::HarnessFailed);
    }
    if let Some(path) = &args.out {
        let bytes = serde_json::to_vec_pretty(&report).expect("strings and numbers always serialise");
        if let Err(error) = fs::write(path, bytes) {
            complain(&format!("{}: cannot be written: {error}", path.display()));
            return Ok(Exit::HarnessFailed);
        }
    }
    Ok(if report.violations > 0 { Exit::Violation } else { Exit::Clean })
}

type Logs = Vec<(String, Vec<Form>)>;

fn logs(args: &ProveArgs) -> Result<Logs, String> {
    if let Some(length) = args.all_logs {
        return Ok(script::every(length));
    }
    let named = script::named();
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = args.log.iter().find(|log| !names.contains(&log.as_str())) {
        return Err(format!("there is no log {unknown:?}; there are: {}", names.join(", ")));
    }
    let chosen = |name: &str| args.log.is_empty() || args.log.iter().any(|log| log == name);
    let chosen = named.into_iter().filter(|(name, _)| chosen(name));
    Ok(chosen.map(|(name, forms)| (name.to_owned(), forms)).collect())
}

fn run(args: &ProveArgs, logs: &Logs) -> ProveReport {
    let jobs = args.jobs.map_or_else(cores, usize::from).min(logs.len());
    let (subject, profile) = (args.setup.subject(), args.setup.profile());
    let began = now();
    let bar = ProgressBar::new(logs.len() as u64).with_prefix("prove");
    let style = "{prefix:8} [{wide_bar}] {human_pos}/{human_len} logs, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done: Mutex<BTreeMap<usize, (Proof, f64)>> = Mutex::default();
    let finished = AtomicBool::new(false);
    let worker = || {
        while let Some((name, forms)) = logs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let at = logs.iter().position(|(log, _)| log == name).expect("it is one of them");
            let began = now();
            let proof = prove::prove(subject, profile, name, forms, &stop);
            let seconds = began.elapsed().as_secs_f64();
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, (proof, seconds));
            bar.inc(1);
        }
    };
    thread::scope(|scope| {
        if let Some(limit) = args.time_limit {
            let (stop, finished) = (&stop, &finished);
            scope.spawn(move || watch(limit.0, began, stop, finished));
        }
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().for_each(|worker| worker.join().expect("a proof does not panic"));
        finished.store(true, Ordering::Relaxed);
    });
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let checked: u64 = done.values().map(|(proof, _)| proof.states.checked).sum();
    let cpu: f64 = done.values().map(|(_, seconds)| seconds).sum();
    let proofs: Vec<ProofReport> =
        done.into_values().map(|(proof, seconds)| ProofReport::new(proof, seconds, args)).collect();
    ProveReport {
        command: "prove",
        subject: subject.name(),
        profile: profile.name(),
        complete: proofs.iter().all(|proof| proof.complete),
        jobs,
        seconds,
        states_per_second_per_core: if cpu > 0.0 { checked as f64 / cpu } else { 0.0 },
        floor_states_per_second_per_core: floor(),
        violations: proofs.iter().map(|proof| proof.findings.len() as u64).sum(),
        proofs,
    }
}

/// Tells the proofs to stop when the time is over.
fn watch(limit: std::time::Duration, began: Instant, stop: &AtomicBool, finished: &AtomicBool) {
    while !finished.load(Ordering::Relaxed) {
        if began.elapsed() >= limit {
            stop.store(true, Ordering::Relaxed);
            return;
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Disks per second that a fork, an open of the database, a scan and a drop alone would allow.
fn floor() -> f64 {
    const ROUNDS: u32 = 2000;
    let one = prove::floor();
    let began = now();
    (0..ROUNDS).for_each(|_| one.round());
    f64::from(ROUNDS) / began.elapsed().as_secs_f64()
}

impl ProofReport {
    fn new(proof: Proof, seconds: f64, args: &ProveArgs) -> ProofReport {
        let (subject, profile) = (args.setup.subject(), args.setup.profile());
        let what = if args.all_logs.is_some() { "--all-logs" } else { "--log" };
        let value = match args.all_logs {
            Some(length) => length.to_string(),
            None => proof.log.clone(),
        };
        let reproduce =
            format!("cargo sim prove {what} {value} --subject {subject} --profile {}", profile.name());
        let finding = |(fingerprint, found): (String, prove::Finding)| FindingReport {
            fingerprint,
            invariant: found.invariant,
            states_hit: found.states_hit,
            path: found.path,
            reproduce: reproduce.clone(),
            evidence: found.evidence,
        };
        ProofReport {
            scenario: proof.log,
            complete: proof.complete,
            assumes: ASSUMES,
            states: proof.states,
            recovery_depth_max: proof.recovery_depth_max,
            digest: format!("{:016x}", proof.digest),
            seconds,
            findings: proof.findings.into_iter().map(finding).collect(),
        }
    }
}

fn certified(path: &Path) -> Result<Certified, String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: not a certificate: {error}", path.display()))
}

fn compare(certified: &Certified, report: &ProveReport) -> Result<(), String> {
    if (certified.subject.as_str(), certified.profile.as_str()) != (report.subject, report.profile) {
        return Err(format!(
            "the certificate is for subject {} and profile {}, this run for {} and {}",
            certified.subject, certified.profile, report.subject, report.profile
        ));
    }
    let found: Vec<CertifiedProof> = report
        .proofs
        .iter()
        .map(|proof| CertifiedProof {
            scenario: proof.scenario.clone(),
            complete: proof.complete,
            states: proof.states.clone(),
            recovery_depth_max: proof.recovery_depth_max,
            digest: proof.digest.clone(),
        })
        .collect();
    if certified.proofs.len() != found.len() {
        return Err(format!(
            "the certificate has {} proofs, this run {}",
            certified.proofs.len(),
            found.len()
        ));
    }
    match certified.proofs.iter().zip(&found).find(|(expected, found)| expected != found) {
        Some((expected, found)) => Err(format!("the certificate says {expected:?}, this run {found:?}")),
        None => Ok(()),
    }
}

fn text(report: &ProveReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "subject {}, profile {}, {} jobs", report.subject, report.profile, report.jobs)?;
    writeln!(out)?;
    // Of thousands of logs nobody wants a line each.
    let listed = if report.proofs.len() <= 20 { report.proofs.as_slice() } else { &[] };
    if !listed.is_empty() {
        writeln!(
            out,
            "{:18}{:>10}{:>12}{:>12}{:>10}{:>7}{:>10}  digest",
            "log", "complete", "raw", "checked", "expanded", "depth", "findings"
        )?;
    }
    for proof in listed {
        let States { raw, checked, expanded, .. } = &proof.states;
        write!(out, "{:18}{:>10}{raw:>12}{checked:>12}{expanded:>10}", proof.scenario, proof.complete)?;
        write!(out, "{:>7}{:>10}", proof.recovery_depth_max, proof.findings.len())?;
        writeln!(out, "  {}", proof.digest)?;
    }
    for proof in &report.proofs {
        for finding in &proof.findings {
            writeln!(out)?;
            writeln!(out, "VIOLATION  {} (log {})", finding.fingerprint, proof.scenario)?;
            writeln!(out, "  {} states show it; the shortest way there:", finding.states_hit)?;
            finding.path.iter().try_for_each(|step| writeln!(out, "    {step}"))?;
            writeln!(out, "  {}", super::sweep::shortened(&finding.evidence))?;
            writeln!(out, "  {}", finding.reproduce)?;
        }
    }
    writeln!(out)?;
    let checked: u64 = report.proofs.iter().map(|proof| proof.states.checked).sum();
    let state = if report.complete { "complete" } else { "NOT complete" };
    writeln!(
        out,
        "{} logs, {checked} states checked, {state}; {:.0} states a second and core, of {:.0} that the database alone \
         allows; {:.1} s",
        report.proofs.len(),
        report.states_per_second_per_core,
        report.floor_states_per_second_per_core,
        report.seconds
    )
}

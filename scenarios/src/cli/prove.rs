//! `cargo sim prove`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sim::{Lies, Profile};

use super::args::{EffortArgs, Format, OutputArgs, SetupArgs};
use super::style::{BAD, COMMAND, GOOD, HEAD, WARN};
use super::{Exit, complain, now, options};
use crate::form::Form;
use crate::output;
use crate::prove::{self, Errors, Finding, Proof, States, Terms, script};
use crate::results::{per_second, shortened};
use crate::subject::Subject;

/// Characters of evidence that are printed.
const EVIDENCE_CHARS_MAX: usize = 240;

/// The longest logs of which all can be closed.
const LOG_LENGTH_MAX: u8 = 4;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo sim prove --log first-bootstrap --log rotations\n  \
    cargo sim prove --all-logs 2 --profile ext4-ordered\n  \
    cargo sim prove --subject as-merged --log rotations --errors none\n  \
    cargo sim prove --out proof                       # writes proof/certificate.json\n  \
    cargo sim prove --verify proof/certificate.json\n\n\
    Ctrl-C ends it with what was closed so far, which is NOT complete and proves nothing.")]
pub(super) struct ProveArgs {
    /// Close this log only: first-bootstrap, rotations, registrations, duplicates, refusals, mixed (repeatable)
    /// [default: all]
    #[arg(long, value_name = "NAME")]
    log: Vec<String>,
    /// Close every log of up to N entries instead of the named ones
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=i64::from(LOG_LENGTH_MAX)), value_name = "N", conflicts_with = "log")]
    all_logs: Option<u8>,
    #[command(flatten)]
    setup: SetupArgs,
    /// Errors of the disk, one a life: none, fenced (a failed sync of the database ends the life in a power loss),
    /// unfenced (without that rule, which breaks the database) [default: fenced, with --all-logs none]
    #[arg(long, value_name = "NAME")]
    errors: Option<Errors>,
    /// Also sample images in which sectors are garbage: a node may refuse them, and must not go on wrongly
    #[arg(long)]
    garbled: bool,
    #[command(flatten)]
    effort: EffortArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Write the certificate there as well: certificate.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run again what this certificate says, and compare; it knows its logs and all options that matter
    #[arg(long, value_name = "FILE")]
    verify: Option<PathBuf>,
}

impl ProveArgs {
    fn errors(&self) -> Errors {
        self.errors.unwrap_or(if self.all_logs.is_some() { Errors::None } else { Errors::Fenced })
    }
}

#[derive(Debug, Serialize)]
struct ProveReport {
    command: &'static str,
    subject: &'static str,
    profile: &'static str,
    lie: Option<&'static str>,
    errors: &'static str,
    garbled: bool,
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

/// What a certificate says, and a second run has to come to as well: everything but speed and wording.
#[derive(Debug, Serialize, Deserialize)]
struct Certificate {
    subject: String,
    profile: String,
    lie: Option<String>,
    errors: String,
    garbled: bool,
    complete: bool,
    proofs: Vec<CertifiedProof>,
    violations: u64,
}

#[derive(Debug, Serialize, Deserialize)]
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

#[derive(Debug, Serialize, Deserialize)]
struct CertifiedFinding {
    fingerprint: String,
    invariant: String,
    states_hit: u64,
    log: String,
    path: Vec<String>,
}

pub(super) fn main(args: &ProveArgs, out: &mut impl Write) -> io::Result<Exit> {
    let (plan, certificate) = match plan(args) {
        Ok(plan) => plan,
        Err((exit, message)) => {
            complain(&message);
            return Ok(exit);
        }
    };
    // Whether that can be written is better known now than in an hour.
    if let Some(dir) = &args.out
        && let Err(error) = output::prepare(dir)
    {
        complain(&error.to_string());
        return Ok(Exit::HarnessFailed);
    }
    let report = run(args, &plan);
    let mut exit = if report.violations > 0 { Exit::Violation } else { Exit::Clean };
    if let Some(dir) = &args.out {
        let mut bytes = serde_json::to_vec_pretty(&report).expect("strings and numbers always serialise");
        bytes.push(b'\n');
        if let Err(error) = output::write(&dir.join("certificate.json"), &bytes) {
            complain(&error.to_string());
            exit = Exit::HarnessFailed;
        }
    }
    match args.output.format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
        Format::Text => text(&report, out)?,
    }
    if let (Some(certificate), Some(path)) = (certificate, &args.verify) {
        let differences = compare(&certificate, &report);
        if differences.is_empty() {
            complain(&format!("{}: verified, this run came to the same", path.display()));
        } else {
            complain(&format!("{}: NOT verified", path.display()));
            differences.iter().for_each(|difference| complain(difference));
            exit = Exit::HarnessFailed;
        }
    }
    Ok(exit)
}

/// What is to be proven.
struct Plan {
    subject: Subject,
    profile: Profile,
    lies: Lies,
    errors: Errors,
    garbled: bool,
    logs: Logs,
}

enum Logs {
    Named(Vec<(&'static str, Vec<Form>)>),
    All(u8),
}

impl Logs {
    /// The named logs of these names, or all of them where there is no name.
    fn named(subject: Subject, names: &[String]) -> Result<Logs, String> {
        let named = script::named(subject.rules());
        let known: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("there is no log {unknown:?}; there are: {}", known.join(", ")));
        }
        let chosen = |name: &str| names.is_empty() || names.iter().any(|log| log == name);
        Ok(Logs::Named(named.into_iter().filter(|(name, _)| chosen(name)).collect()))
    }

    /// Those that a certificate's proofs are about.
    fn of(subject: Subject, certificate: &Certificate) -> Result<Logs, String> {
        let names: Vec<String> = certificate.proofs.iter().map(|proof| proof.scenario.clone()).collect();
        match names.as_slice() {
            [] => Err("it is about no log".to_owned()),
            [name] if name.starts_with(prove::EVERY_LOG) => {
                let length = name[prove::EVERY_LOG.len()..].parse().ok();
                let length = length.filter(|length| (1..=LOG_LENGTH_MAX).contains(length));
                length.map(Logs::All).ok_or_else(|| format!("there is no {name:?}"))
            }
            names => Logs::named(subject, names),
        }
    }

    /// As they are written on a command line.
    fn options(&self) -> String {
        match self {
            Logs::Named(logs) => {
                logs.iter().map(|(name, _)| format!("--log {name}")).collect::<Vec<_>>().join(" ")
            }
            Logs::All(length) => format!("--all-logs {length}"),
        }
    }
}

impl Plan {
    fn asked_for(args: &ProveArgs) -> Result<Plan, String> {
        let (subject, profile) = (args.setup.subject(), args.setup.profile());
        if subject == Subject::AsHead {
            return Err("the epochs of as-head rise at every start, so that its states never come to an end; sweep it".into());
        }
        let named = || Logs::named(subject, &args.log);
        let logs = args.all_logs.map_or_else(named, |length| Ok(Logs::All(length)))?;
        let (lies, errors, garbled) = (args.setup.lies(), args.errors(), args.garbled);
        Ok(Plan { subject, profile, lies, errors, garbled, logs })
    }

    fn of(certificate: &Certificate) -> Result<Plan, String> {
        fn parsed<T: FromStr<Err: ToString>>(name: &str) -> Result<T, String> {
            name.parse().map_err(|error: T::Err| error.to_string())
        }
        let subject = parsed(&certificate.subject)?;
        Ok(Plan {
            subject,
            profile: parsed(&certificate.profile)?,
            lies: certificate.lie.as_deref().map_or(Ok(Lies::NONE), parsed)?,
            errors: parsed(&certificate.errors)?,
            garbled: certificate.garbled,
            logs: Logs::of(subject, certificate)?,
        })
    }

    /// A certificate says itself what is to be run: what is asked for beside it has to be the same.
    fn agrees_with(&self, args: &ProveArgs) -> Result<(), String> {
        let (setup, lies) = (&args.setup, |lies: Lies| lies.name().unwrap_or("none"));
        let options = [
            ("--subject", self.subject.name(), setup.subject.map(Subject::name)),
            ("--profile", self.profile.name(), setup.profile.map(Profile::name)),
            ("--lie", lies(self.lies), setup.lie.map(lies)),
            ("--errors", self.errors.name(), args.errors.map(Errors::name)),
        ];
        for (option, own, asked) in options {
            if let Some(asked) = asked.filter(|asked| *asked != own) {
                return Err(format!("it was made with {option} {own}, and not with {option} {asked}"));
            }
        }
        if args.garbled && !self.garbled {
            return Err("it was made without --garbled".to_owned());
        }
        if args.all_logs.is_none() && args.log.is_empty() {
            return Ok(());
        }
        let (own, asked) = (self.logs.options(), Plan::asked_for(args)?.logs.options());
        match own == asked {
            true => Ok(()),
            false => Err(format!("it was made with {own}, and not with {asked}")),
        }
    }
}

/// What is to be run, and the certificate that says so.
fn plan(args: &ProveArgs) -> Result<(Plan, Option<Certificate>), (Exit, String)> {
    let Some(path) = &args.verify else {
        let plan = Plan::asked_for(args).map_err(|message| (Exit::Usage, message))?;
        return Ok((plan, None));
    };
    let in_file = |message| format!("{}: {message}", path.display());
    let certificate = certificate(path).map_err(|message| (Exit::HarnessFailed, in_file(message)))?;
    let plan = Plan::of(&certificate)
        .map_err(|message| (Exit::HarnessFailed, in_file(format!("not a certificate: {message}"))))?;
    plan.agrees_with(args).map_err(|message| (Exit::Usage, in_file(message)))?;
    Ok((plan, Some(certificate)))
}

fn run(args: &ProveArgs, plan: &Plan) -> ProveReport {
    let jobs = args.effort.jobs();
    let Plan { subject, profile, lies, errors, garbled, ref logs } = *plan;
    let floor = floor();
    let patience = args.effort.patience();
    let stop = AtomicBool::new(false);
    let bar = ProgressBar::new_spinner().with_prefix("prove");
    let style = "{prefix:8} {spinner} {human_pos} states, {per_sec}, {elapsed}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    let progress = |states| bar.inc(states);
    let terms = Terms {
        subject,
        profile,
        lies,
        errors,
        garbled,
        first_only: false,
        stop: &stop,
        progress: &progress,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build().expect("threads can be started");
    let timed = |prove: &dyn Fn() -> Proof| {
        let began = now();
        (prove(), began.elapsed().as_secs_f64())
    };
    let proofs: Vec<(Proof, f64)> = patience.during(&stop, || {
        pool.install(|| match logs {
            Logs::All(length) => vec![timed(&|| prove::every_log(terms, (*length).into()))],
            Logs::Named(logs) => logs
                .par_iter()
                .with_max_len(1)
                .map(|(name, forms)| timed(&|| prove::one_log(terms, name, forms)))
                .collect(),
        })
    });
    bar.finish_and_clear();
    let seconds = patience.seconds();
    // Logs are closed side by side, and the last one alone.
    let cpu = match logs {
        Logs::All(_) => seconds * jobs as f64,
        Logs::Named(_) => proofs.iter().map(|(_, seconds)| seconds).sum(),
    };
    let proofs: Vec<ProofReport> =
        proofs.into_iter().map(|(proof, seconds)| ProofReport::new(proof, seconds, plan)).collect();
    ProveReport {
        command: "prove",
        subject: subject.name(),
        profile: profile.name(),
        lie: lies.name(),
        errors: errors.name(),
        garbled,
        complete: proofs.iter().all(|proof| proof.complete),
        jobs,
        seconds,
        states_per_second_per_core: per_second(
            proofs.iter().map(|proof| proof.states.checked + proof.states.errors).sum(),
            cpu,
        ),
        floor_states_per_second_per_core: floor,
        violations: proofs.iter().map(|proof| proof.findings.len() as u64).sum(),
        proofs,
    }
}

/// Disks per second that a fork, an open of the database, a scan and a drop alone would allow.
fn floor() -> f64 {
    const ROUNDS: u32 = 4000;
    let one = prove::floor();
    let began = now();
    (0..ROUNDS).for_each(|_| one.round());
    per_second(ROUNDS.into(), began.elapsed().as_secs_f64())
}

impl ProofReport {
    fn new(proof: Proof, seconds: f64, plan: &Plan) -> ProofReport {
        let which = match &plan.logs {
            Logs::All(_) => plan.logs.options(),
            Logs::Named(_) => format!("--log {}", proof.log),
        };
        let (errors, options) = (plan.errors.name(), options(plan.subject, plan.profile, plan.lies));
        let reproduce = format!("cargo sim prove {which} --errors {errors}{options}");
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
            assumes: plan.errors.assumes(),
            states: proof.states,
            recovery_depth_max: proof.recovery_depth_max,
            digest: format!("{:016x}", proof.digest),
            seconds,
            findings: proof.findings.into_iter().map(finding).collect(),
        }
    }
}

fn certificate(path: &Path) -> Result<Certificate, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("not a certificate: {error}"))
}

/// Where a run came to something else than a certificate says.
fn compare(certificate: &Certificate, report: &ProveReport) -> Vec<String> {
    let text = serde_json::to_string(report).expect("strings and numbers always serialise");
    let found: Certificate = serde_json::from_str(&text).expect("a report is a certificate");
    let value =
        |certificate| serde_json::to_value(certificate).expect("strings and numbers always serialise");
    let mut differences = Vec::new();
    differ("", &value(certificate), &value(&found), &mut differences);
    differences
}

fn differ(place: &str, expected: &Value, found: &Value, into: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(fields), Value::Object(others)) => {
            let more = others.keys().filter(|name| !fields.contains_key(*name));
            for name in fields.keys().chain(more) {
                let dot = if place.is_empty() { "" } else { "." };
                differ(&format!("{place}{dot}{name}"), &expected[name], &found[name], into);
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            for (nth, (item, other)) in items.iter().zip(others).enumerate() {
                // What has a name goes by it.
                let name = item["scenario"].as_str().or(item["fingerprint"].as_str());
                let name = name.map_or_else(|| nth.to_string(), str::to_owned);
                differ(&format!("{place}[{name}]"), item, other, into);
            }
        }
        _ if expected == found => {}
        _ => {
            let [expected, found] =
                [expected, found].map(|value| shortened(&value.to_string(), EVIDENCE_CHARS_MAX));
            into.push(format!("{place}: the certificate says {expected}, this run {found}"));
        }
    }
}

fn text(report: &ProveReport, out: &mut impl Write) -> io::Result<()> {
    let ProveReport { subject, profile, lie, errors, jobs, .. } = report;
    let lie = lie.map(|lie| format!(", lie {lie}")).unwrap_or_default();
    writeln!(out, "subject {subject}, profile {profile}{lie}, errors {errors}, {jobs} jobs")?;
    writeln!(out)?;
    let columns = [
        "logs", "complete", "raw", "distinct", "checked", "expanded", "twins", "errors", "depth", "findings",
    ];
    write!(out, "{HEAD}{:22}", "log")?;
    columns.iter().try_for_each(|column| write!(out, "{column:>11}"))?;
    writeln!(out, "  digest{HEAD:#}")?;
    for proof in &report.proofs {
        let States { raw, distinct, checked, expanded, twins, errors, .. } = &proof.states;
        write!(out, "{:22}{:>11}{:>11}", proof.scenario, proof.logs, proof.complete)?;
        write!(out, "{raw:>11}{distinct:>11}{checked:>11}{expanded:>11}{twins:>11}{errors:>11}")?;
        writeln!(out, "{:>11}{:>11}  {}", proof.recovery_depth_max, proof.findings.len(), proof.digest)?;
    }
    for proof in &report.proofs {
        for finding in &proof.findings {
            writeln!(out)?;
            writeln!(out, "{BAD}VIOLATION  {}{BAD:#}", finding.fingerprint)?;
            writeln!(out, "  {} states show it; the shortest way there, with the log", finding.states_hit)?;
            writeln!(out, "    {}", if finding.log.is_empty() { "of no entry" } else { &finding.log })?;
            writeln!(out, "  is")?;
            finding.path.iter().try_for_each(|step| writeln!(out, "    {step}"))?;
            writeln!(out, "  {}", shortened(&finding.evidence, EVIDENCE_CHARS_MAX))?;
            writeln!(out, "  {COMMAND}{}{COMMAND:#}", finding.reproduce)?;
        }
    }
    writeln!(out)?;
    let mut skipped = States::default();
    report.proofs.iter().for_each(|proof| skipped.add(&proof.states));
    if skipped.garbled > 0 {
        writeln!(out, "garbled: {} images, {} starts cleanly refused", skipped.garbled, skipped.refused)?;
    }
    skipped.skipped.iter().try_for_each(|(reason, count)| writeln!(out, "left out: {count} {reason}"))?;
    let (style, state) = if report.complete { (GOOD, "complete") } else { (WARN, "NOT complete") };
    writeln!(
        out,
        "{} states checked, {style}{state}{style:#}, {} violations; {:.0} states a second and core, where the database alone allows {:.0}; {:.1} s",
        skipped.checked,
        report.violations,
        report.states_per_second_per_core,
        report.floor_states_per_second_per_core,
        report.seconds
    )
}

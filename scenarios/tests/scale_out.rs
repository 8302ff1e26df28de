//! What runs elsewhere: the workflows, the Job for Kubernetes and the line for Slurm, held to what they promise.

#[path = "common/root.rs"]
mod root;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use regex::Regex;
use root::root;
use serde::Deserialize;
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("it is part of the project")
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).expect("YAML")
}

/// A directory in which `name` is a program that prints its arguments, one a line.
fn stand_in(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = dir.path().join(name);
    fs::write(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 1\n").expect("a directory of ours");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    dir
}

/// Runs a shell's line with a stand-in for the program, and gives what follows `--shard` and `--seeds`.
fn shard_and_seeds(program: &str, shell: &[&str], env: &[(&str, &str)], status: i32) -> (String, String) {
    let dir = stand_in(program);
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).env_clear().env("PATH", path).envs(env.iter().copied());
    let output = command.output().expect("a shell");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said} {complaint}");
    let after = |option: &str| {
        let mut words = said.lines().skip_while(|word| *word != option);
        words.nth(1).unwrap_or_else(|| panic!("no {option} in {said}")).to_owned()
    };
    (after("--shard"), after("--seeds"))
}

/// The part of `batch/v1` that is used here, under the names that Kubernetes gives it. Another field is a slip of the pen.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Job {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: JobSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JobSpec {
    completion_mode: String,
    completions: u64,
    parallelism: u64,
    backoff_limit_per_index: u64,
    max_failed_indexes: u64,
    template: PodTemplate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PodTemplate {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodSpec {
    restart_policy: String,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Container {
    name: String,
    image: String,
    image_pull_policy: String,
    env: Vec<Variable>,
    command: Vec<String>,
    args: Vec<String>,
    resources: Resources,
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct VolumeMount {
    name: String,
    mount_path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Volume {
    name: String,
    persistent_volume_claim: Claim,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Claim {
    claim_name: String,
}

fn shares(count: u64) -> BTreeSet<String> {
    (1..=count).map(|share| format!("{share}/{count}")).collect()
}

#[test]
fn the_kubernetes_job_is_one_and_its_pods_run_every_shard_once() {
    let job: Job = serde_json::from_value(yaml(".ci/k8s/sweep.yaml")).expect("a Job of batch/v1");
    assert_eq!((job.api_version.as_str(), job.kind.as_str()), ("batch/v1", "Job"));
    // The name of each pod is that of the Job and an index, and is to be the name of a host.
    assert!(job.metadata.name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'));
    let spec = job.spec;
    assert_eq!(spec.completion_mode, "Indexed");
    let completions = spec.completions;
    assert!(spec.parallelism <= completions && spec.backoff_limit_per_index > 0);
    assert!(spec.max_failed_indexes < completions);
    let pod = spec.template.spec;
    assert_eq!(pod.restart_policy, "Never", "a limit for each index needs it");
    let [container] = pod.containers.as_slice() else { panic!("one container") };
    assert!(!container.name.is_empty() && container.image == "applier-sim");
    assert_eq!(
        container.image_pull_policy, "IfNotPresent",
        "an image without a tag is always pulled otherwise"
    );
    let mounted =
        container.volume_mounts.iter().map(|mount| (mount.name.as_str(), mount.mount_path.as_str()));
    assert_eq!(mounted.collect::<Vec<_>>(), [("results", "/results")]);
    let claims = pod
        .volumes
        .iter()
        .map(|volume| (volume.name.as_str(), volume.persistent_volume_claim.claim_name.as_str()));
    assert_eq!(claims.collect::<Vec<_>>(), [("results", "applier-sim-results")]);
    for amount in container.resources.requests.values().chain(container.resources.limits.values()) {
        assert!(amount.trim_end_matches(['M', 'G', 'i']).parse::<u64>().is_ok(), "{amount} is no quantity");
    }
    let shell: Vec<&str> = container.command.iter().chain(&container.args).map(String::as_str).collect();
    let mut ran = BTreeSet::new();
    for index in 0..completions {
        let index = index.to_string();
        let mut env = vec![("JOB_COMPLETION_INDEX", index.as_str())];
        env.extend(container.env.iter().map(|one| (one.name.as_str(), one.value.as_str())));
        // A finding (status 1 of the stand-in) is a result and no failure of the pod.
        let (shard, seeds) = shard_and_seeds("scenarios", &shell, &env, 0);
        assert!(seeds.starts_with("0.."), "{seeds}");
        assert!(ran.insert(shard), "no shard twice");
    }
    assert_eq!(ran, shares(completions));
}

#[test]
fn the_slurm_line_runs_every_shard_once() {
    let readme = read("README.md");
    let line = readme.lines().find(|line| line.contains("sbatch --array=")).expect("it is in the README");
    let count = line.split("--array=1-").nth(1).and_then(|rest| rest.split(' ').next()).expect("a range");
    let wrapped = line.split('\'').nth(1).expect("what each task runs");
    let mut ran = BTreeSet::new();
    for task in 1..=count.parse::<u64>().expect("a number") {
        let task = task.to_string();
        let env = [("SLURM_ARRAY_TASK_ID", task.as_str()), ("SLURM_ARRAY_TASK_COUNT", count)];
        let (shard, _) = shard_and_seeds("cargo", &["/bin/sh", "-c", wrapped], &env, 1);
        assert!(ran.insert(shard), "no shard twice");
    }
    assert_eq!(ran, shares(count.parse().expect("a number")));
}

/// The lines that a workflow runs.
fn runs(workflow: &Value) -> Vec<String> {
    let jobs = workflow["jobs"].as_object().expect("jobs").values();
    let steps = jobs.flat_map(|job| job["steps"].as_array().expect("steps"));
    steps.filter_map(|step| step["run"].as_str().map(str::to_owned)).collect()
}

/// A line that finds nothing.
fn is_housekeeping(line: &str) -> bool {
    ["echo", "mkdir", "rustup"].iter().any(|word| line.starts_with(word))
}

#[test]
fn the_workflows_run_what_anybody_can_run() {
    let scripts = [".ci/benchmarks", ".ci/run", ".ci/release", ".ci/stranger"];
    assert_eq!(runs(&yaml(".github/workflows/ci.yml")), scripts);
    let nightly = yaml(".github/workflows/nightly.yml");
    let script = read(".ci/nightly");
    let mut steps = BTreeSet::new();
    for line in runs(&nightly).iter().filter(|line| !is_housekeeping(line)) {
        let step = line.strip_prefix(".ci/nightly ").unwrap_or_else(|| panic!("{line} is not of the script"));
        steps.insert(step.split(' ').next().expect("a word").to_owned());
    }
    let jobs = &nightly["jobs"];
    let matrix = jobs["long"]["strategy"]["matrix"]["step"].as_array().expect("steps");
    steps.extend(matrix.iter().map(|step| step.as_str().expect("a name").to_owned()));
    steps.remove("${{");
    let all = ["fuzz", "mutants", "prove", "report", "seeds", "sweep", "teeth"];
    assert_eq!(steps, all.map(str::to_owned).into(), "the night does everything that the script knows");
    assert!(all.iter().all(|step| script.contains(&format!("\n{step}() {{"))));
    let matrix = &jobs["sweep"]["strategy"]["matrix"];
    let names = |key: &str| -> BTreeSet<String> {
        let list = matrix[key].as_array().expect("a list");
        list.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names("profile"), sim::Profile::ALL.map(|profile| profile.name().to_owned()).into());
    assert_eq!(names("shard"), shares(names("shard").len() as u64));
}

/// Every file below a directory, as a path from the top of the project.
fn sources(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(dir)).expect("it is part of the project");
    let paths = entries.map(|entry| format!("{dir}/{}", entry.expect("an entry").file_name().display()));
    paths.flat_map(|path| if root().join(&path).is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn every_file_whose_mutants_are_tried_is_in_one_part_of_the_night() {
    let nightly = yaml(".github/workflows/nightly.yml");
    let parts = nightly["jobs"]["mutants"]["strategy"]["matrix"]["of"].as_array().expect("parts");
    let part =
        |part: &Value| Regex::new(&format!("^(?:{})", part.as_str().expect("a pattern"))).expect("a pattern");
    let parts: Vec<Regex> = parts.iter().map(part).collect();
    for dir in ["applier/src", "sim/src/disk"] {
        assert!(read(".cargo/mutants.toml").contains(&format!("\"{dir}/**/*.rs\"")));
        // Tests are not changed.
        for file in sources(dir).iter().filter(|file| file.ends_with(".rs") && !file.contains("/tests")) {
            assert_eq!(parts.iter().filter(|part| part.is_match(file)).count(), 1, "{file}");
        }
    }
}

#[test]
fn nights_have_seeds_of_their_own() {
    let seeds = |night: &str| {
        let dir = stand_in("cargo");
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let output = Command::new(root().join(".ci/nightly"))
            .args(["sweep", "posix", "1/2"])
            .env("PATH", path)
            .envs([("NIGHT", night), ("SINGLE_SEEDS", "10000000"), ("CLUSTER_SEEDS", "5")])
            .output()
            .expect("the script");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success(), "{said}");
        let words: Vec<&str> = said.lines().collect();
        let ranges = words.windows(2).filter(|pair| pair[0] == "--seeds").map(|pair| pair[1].to_owned());
        let ends = |range: String| {
            let (first, end) = range.split_once("..").expect("a range");
            (first.parse::<u64>().expect("a seed"), end.parse::<u64>().expect("a seed"))
        };
        let ranges: Vec<(u64, u64)> = ranges.map(ends).collect();
        assert_eq!(ranges.len(), 2, "{said}");
        assert_eq!(ranges[0].0, ranges[1].0);
        ranges[0]
    };
    let (first, second) = (seeds("2026-02-28"), seeds("2026-03-01"));
    assert!(first.1 <= second.0, "{first:?} {second:?}");
    assert_eq!(seeds("2026-03-01"), second, "a night can be run again");
}

#[test]
fn a_night_that_is_no_date_is_wrong_usage() {
    let mut command = Command::new(root().join(".ci/nightly"));
    let output =
        command.args(["sweep", "posix", "1/2"]).env("NIGHT", "tonight?").output().expect("the script");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("NIGHT=tonight? is no date"));
}

#[test]
fn the_script_says_what_it_knows() {
    let mut command = Command::new("./nightly");
    let output = command.current_dir(root().join(".ci")).output().expect("the script");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    for step in ["sweep PROFILE K/N", "prove", "teeth", "mutants", "fuzz", "seeds", "report", "all"] {
        assert!(said.contains(&format!(".ci/nightly {step}")), "{step}: {said}");
    }
}

//! One life of a node on real files, in a process that is made to be killed.

use benchmarks::peers::child::{Orders, run};
use clap::Parser;

fn main() -> std::io::Result<()> {
    run(&Orders::parse())
}

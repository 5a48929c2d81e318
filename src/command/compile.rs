//! `signalbox compile`: writes what a policy becomes: P4, P4Info, bmv2 JSON, plan.

use std::path::PathBuf;

use clap::Args;
use signalbox_lower::planning::CPU_PORT;
use signalbox_p4runtime::text::print_p4info;

use super::{ErrorFormat, policy_input};
use crate::failure::Failure;
use crate::{files, image};

/// What `compile` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The folder for NAME.p4, NAME.p4info.txtpb, NAME.json and NAME.plan.json
    #[arg(short = 'o', value_name = "DIR")]
    output: PathBuf,
    /// The target's port that leads to the agent, 1 to 510
    #[arg(long, value_name = "PORT", default_value_t = CPU_PORT)]
    cpu_port: u16,
}

pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    let policy = policy_input::load(&arguments.policy, format)?;
    let compiled = image::compile_for(policy, arguments.cpu_port)?;
    let name = &compiled.policy.name;
    files::make_folder(&arguments.output)?;
    let plan =
        serde_json::to_string_pretty(&compiled.lowered.plan).map_err(Failure::failed)? + "\n";
    let outputs = [
        (format!("{name}.p4"), compiled.lowered.p4.clone()),
        (
            format!("{name}.p4info.txtpb"),
            print_p4info(&compiled.image.p4info),
        ),
        (format!("{name}.json"), compiled.image.json.clone()),
        (format!("{name}.plan.json"), plan),
    ];
    for (file, text) in &outputs {
        files::write_whole(&arguments.output.join(file), text.as_bytes())?;
    }
    // What the program includes lies beside it, so that any P4 compiler can be run there.
    for (file, text) in &compiled.lowered.sources {
        let path = arguments.output.join(file);
        files::make_folder(path.parent().unwrap_or(&arguments.output))?;
        files::write_whole(&path, text.as_bytes())?;
    }
    Ok(())
}

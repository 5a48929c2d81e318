//! `signalbox fmt`: writes policies in their one form.

use std::path::PathBuf;

use clap::Args;

use super::ErrorFormat;
use crate::failure::Failure;
use crate::files;

/// What `fmt` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The policies
    #[arg(required = true, value_name = "POLICY")]
    policies: Vec<PathBuf>,
    /// Change nothing; name the files that are not in form, and end with 1 if there are any
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    let mut unformed = Vec::new();
    for path in &arguments.policies {
        let text = files::read_text(path)?;
        let errors = signalbox_policy::parse::parse(&text).errors;
        if !errors.is_empty() {
            let name = path.display().to_string();
            let report =
                signalbox_policy::render::render(&errors, &text, &name, format.for_policies());
            return Err(Failure::Input(report));
        }
        let formed = signalbox_policy::fmt(&text);
        if formed == text {
            continue;
        }
        if arguments.check {
            unformed.push(format!("`{}`", path.display()));
        } else {
            files::write_whole(path, formed.as_bytes())?;
        }
    }
    if unformed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(format!(
            "not in form: {}; `signalbox fmt` mends it",
            unformed.join(", ")
        )))
    }
}

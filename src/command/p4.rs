//! `signalbox p4 compile`: any P4_16 program for v1model to bmv2 JSON and P4Info, as text and as the
//! bytes of its protobuf message.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use prost::Message;
use signalbox_p4::diagnostics::Diagnostics;
use signalbox_p4::front::PreprocessOptions;
use signalbox_p4::source::{SourceMap, Sources};
use signalbox_p4runtime::text::print_p4info;

use super::ErrorFormat;
use crate::failure::Failure;
use crate::files;
use crate::output;

/// What `p4` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: P4Command,
}

#[derive(Debug, Subcommand)]
enum P4Command {
    /// Compile a program for v1model to PROG.json, PROG.p4info.txtpb and PROG.p4info.bin
    Compile(CompileArguments),
}

#[derive(Debug, Args)]
struct CompileArguments {
    /// The program
    #[arg(value_name = "PROG.p4")]
    program: PathBuf,
    /// The folder for PROG.json, PROG.p4info.txtpb and PROG.p4info.bin
    #[arg(short = 'o', value_name = "DIR")]
    output: PathBuf,
    /// Look for included files in DIR, too
    #[arg(short = 'I', value_name = "DIR")]
    include: Vec<String>,
    /// Define a macro
    #[arg(short = 'D', value_name = "NAME[=VALUE]")]
    define: Vec<String>,
}

/// Texts from the file system.
struct Disk;

impl Sources for Disk {
    fn read(&self, path: &str) -> Option<Arc<str>> {
        files::read_text(Path::new(path)).ok().map(Arc::from)
    }
}

pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    match &arguments.command {
        P4Command::Compile(arguments) => compile(arguments, format),
    }
}

fn compile(arguments: &CompileArguments, format: ErrorFormat) -> Result<(), Failure> {
    // Read here once more for the error that says why it cannot be read.
    files::read_text(&arguments.program)?;
    let main = arguments.program.display().to_string();
    let options = signalbox_p4::Options {
        preprocess: PreprocessOptions {
            defines: arguments
                .define
                .iter()
                .map(|text| definition(text))
                .collect(),
            include_paths: arguments.include.clone(),
            ..PreprocessOptions::default()
        },
        ..signalbox_p4::Options::default()
    };
    let compiled = signalbox_p4::compile(&Disk, &main, &options)
        .map_err(|failed| Failure::Input(report(&failed.diagnostics, &failed.sources, format)))?;
    output::note(&report(&compiled.diagnostics, &compiled.sources, format));
    files::make_folder(&arguments.output)?;
    let name = arguments.program.file_stem().unwrap_or_default();
    let place = |ending: &str| {
        let mut file = name.to_owned();
        file.push(ending);
        arguments.output.join(Path::new(&file))
    };
    files::write_whole(
        &place(".p4info.txtpb"),
        print_p4info(&compiled.image.p4info).as_bytes(),
    )?;
    files::write_whole(
        &place(".p4info.bin"),
        &compiled.image.p4info.encode_to_vec(),
    )?;
    files::write_whole(&place(".json"), compiled.image.json.as_bytes())
}

fn definition(text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        // As with every C preprocessor: defined without a value means 1.
        None => (text.to_owned(), "1".to_owned()),
    }
}

fn report(diagnostics: &Diagnostics, sources: &SourceMap, format: ErrorFormat) -> String {
    match format {
        ErrorFormat::Human => diagnostics.render(sources, std::io::stderr().is_terminal()),
        ErrorFormat::Plain => diagnostics.render_short(sources),
        ErrorFormat::Json => match diagnostics.to_json(sources) {
            serde_json::Value::Array(list) => list.iter().map(|one| format!("{one}\n")).collect(),
            other => format!("{other}\n"),
        },
    }
}

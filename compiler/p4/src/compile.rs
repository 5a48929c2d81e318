//! The whole way of a program: text in, image out.

use serde_json::Value;
use signalbox_p4runtime::proto::p4::config::v1::P4Info;

use crate::back;
use crate::diagnostics::Diagnostics;
use crate::front::{self, PreprocessOptions};
use crate::mid;
use crate::source::{SourceMap, Sources};

/// How to compile.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Include paths and macros.
    pub preprocess: PreprocessOptions,
    /// What the image says the program is called; the path of the main text if not given.
    pub program_name: Option<String>,
}

/// What a target needs of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// bmv2 JSON, format version 2.23, indented by two blanks, ending in a line feed.
    pub json: String,
    /// What a P4Runtime controller needs.
    pub p4info: P4Info,
}

/// A program that compiled.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What came out.
    pub image: Image,
    /// Warnings.
    pub diagnostics: Diagnostics,
    /// The texts that took part; the diagnostics' places point into them.
    pub sources: SourceMap,
}

/// A program that did not compile.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the program does not compile: {} errors", diagnostics.error_count())]
pub struct Failed {
    /// All errors that were found, and the warnings.
    pub diagnostics: Diagnostics,
    /// The texts that took part; the diagnostics' places point into them.
    pub sources: SourceMap,
}

/// Compiles the program whose text is at `main` among `sources`, for v1model.
///
/// # Errors
///
/// All errors that were found, with the warnings.
pub fn compile(sources: &dyn Sources, main: &str, options: &Options) -> Result<Compiled, Failed> {
    let (program, map, mut diagnostics) = front::parse_program(sources, main, &options.preprocess);
    if diagnostics.has_errors() {
        return Err(Failed {
            diagnostics,
            sources: map,
        });
    }
    let (lowered, found) = mid::lower(&program);
    diagnostics.extend(found);
    let Some(lowered) = lowered.filter(|_| !diagnostics.has_errors()) else {
        return Err(Failed {
            diagnostics,
            sources: map,
        });
    };
    let name = options.program_name.as_deref().unwrap_or(main);
    match (
        back::json::write(&lowered, &map, name),
        back::p4info::write(&lowered),
    ) {
        (Ok(json), Ok(p4info)) => {
            let image = Image {
                json: pretty(&json),
                p4info,
            };
            Ok(Compiled {
                image,
                diagnostics,
                sources: map,
            })
        }
        (json, p4info) => {
            for more in [json.err(), p4info.err()].into_iter().flatten() {
                diagnostics.extend(more);
            }
            Err(Failed {
                diagnostics,
                sources: map,
            })
        }
    }
}

fn pretty(json: &Value) -> String {
    let mut text = format!("{json:#}");
    text.push('\n');
    text
}

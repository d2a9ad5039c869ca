//! What is made of the interface: manual page, completions, the list of the README.

use crate::args::{Generate, command};
use crate::failure::{Context, Failure};
use crate::output::to_stdout;
use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::{self, Write};

/// Prints what is asked for.
pub fn generate(what: Generate) -> Result<(), Failure> {
    let shell = match what {
        Generate::Man => None,
        Generate::CompleteBash => Some(Shell::Bash),
        Generate::CompleteZsh => Some(Shell::Zsh),
        Generate::CompleteFish => Some(Shell::Fish),
    };
    let mut text = Vec::new();
    match shell {
        Some(shell) => clap_complete::generate(shell, &mut command(), "refit", &mut text),
        None => manual(&mut text).doing("making the manual page")?,
    }
    to_stdout(format_args!("{}", String::from_utf8_lossy(&text)));
    Ok(())
}

/// One page with a section for each verb.
fn manual(out: &mut Vec<u8>) -> io::Result<()> {
    let mut program = command();
    program.build();
    let page = Man::new(program.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    for verb in verbs(&program) {
        writeln!(out, ".SH \"REFIT {}\"", verb.get_name().to_uppercase())?;
        let page = Man::new(own(verb));
        let mut section = Vec::new();
        page.render_description_section(&mut section)?;
        writeln!(section, ".SS SYNOPSIS\n{}", synopsis(verb).replace('-', "\\-"))?;
        page.render_options_section(&mut section)?;
        // Below the verb's own heading; what it does stands under that at once.
        let section = String::from_utf8_lossy(&section).replace(".SH DESCRIPTION\n", "");
        out.write_all(section.replace(".SH ", ".SS ").as_bytes())?;
    }
    page.render_extra_section(out)
}

/// The verbs, without that for help.
fn verbs(program: &Command) -> impl Iterator<Item = &Command> {
    program.get_subcommands().filter(|verb| verb.get_name() != "help")
}

/// A verb without the options that all verbs have.
fn own(verb: &Command) -> Command {
    verb.clone().mut_args(|arg| match is_own(&arg) {
        true => arg,
        false => arg.hide(true),
    })
}

fn is_own(arg: &Arg) -> bool {
    !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help"
}

/// A verb with what it takes, in one line.
fn synopsis(verb: &Command) -> String {
    let args: Vec<&Arg> = verb.get_arguments().filter(|arg| is_own(arg)).collect();
    let mut out = String::new();
    entry(&mut out, &format!("refit {}", verb.get_name()), &args);
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Columns of the list, and where a line that goes on begins.
const WIDTH: usize = 130;
const INDENT: usize = 12;

/// A line for each verb with what it takes, and one for what all of them take.
pub fn usage() -> String {
    let mut program = command();
    program.build();
    let mut out = String::new();
    for verb in verbs(&program) {
        let args: Vec<&Arg> = verb.get_arguments().filter(|arg| is_own(arg)).collect();
        entry(&mut out, &format!("refit {}", verb.get_name()), &args);
    }
    let common: Vec<&Arg> = program.get_arguments().filter(|arg| arg.is_global_set()).collect();
    entry(&mut out, "refit VERB …", &common);
    out
}

/// One entry: what is required first, then the rest in its order.
fn entry(out: &mut String, start: &str, args: &[&Arg]) {
    let (required, optional): (Vec<&Arg>, Vec<&Arg>) =
        args.iter().partition(|arg| arg.is_required_set());
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        required.iter().partition(|arg| arg.is_positional());
    let mut width = start.len();
    out.push_str(start);
    for arg in positional.into_iter().chain(options).chain(optional) {
        let text = one(arg);
        if width + 1 + text.chars().count() > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(INDENT - 1));
            width = INDENT - 1;
        }
        out.push(' ');
        out.push_str(&text);
        width += 1 + text.chars().count();
    }
    out.push('\n');
}

fn one(arg: &Arg) -> String {
    let flag = match (arg.get_short(), arg.get_long()) {
        (Some(short), _) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => String::new(),
    };
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let values = arg.get_possible_values();
    let value = match (takes, values.is_empty()) {
        (false, _) => String::new(),
        (true, false) => values.iter().map(|value| value.get_name()).collect::<Vec<_>>().join("|"),
        (true, true) => {
            let names = arg.get_value_names().unwrap_or_default();
            names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
        }
    };
    let several = takes && arg.get_num_args().is_some_and(|count| count.max_values() > 1);
    let value = if several { format!("{value}...") } else { value };
    let text =
        [flag, value].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let repeated = !several && matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
    match (arg.is_required_set(), repeated) {
        (true, _) => text,
        (false, false) => format!("[{text}]"),
        (false, true) => format!("[{text}]..."),
    }
}

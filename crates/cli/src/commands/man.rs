//! `kobj man --output FOLDER`: kobj.1, a page per command, kobj.toml.5, all from the code.

use crate::config::KEYS;
use crate::options::{Cli, ManFlags};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Writes the pages.
pub(crate) fn run(flags: &ManFlags) -> Result<ExitCode, String> {
    let folder = &flags.output;
    std::fs::create_dir_all(folder).map_err(|e| format!("cannot make the folder '{}': {e}", folder.display()))?;
    clap_mangen::generate_to(Cli::whole(), folder)
        .map_err(|e| format!("cannot write the man pages into '{}': {e}", folder.display()))?;
    write(&folder.join("kobj.toml.5"), config_page().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    std::fs::write(path, content).map_err(|e| format!("cannot write '{}': {e}", path.display()))
}

/// kobj.toml(5), from the table of keys.
fn config_page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH kobj.toml 5 \"\" \"kobj {version}\"\n.SH NAME\nkobj.toml \\- configuration of kobj\n.SH DESCRIPTION\n\
         Read in this order, a later file before an earlier one, key by key:\n.PP\n/etc/kobj/kobj.toml\n.br\n\
         /etc/kobj/conf.d/*.toml, by name\n.br\n$XDG_CONFIG_HOME/kobj/kobj.toml (~/.config/kobj/kobj.toml)\n.PP\n\
         Flags stand before KOBJ_ variables, these before the files. An unknown key is an error.\n.SH KEYS\n"
    );
    for (key, takes, what) in KEYS {
        let plain = |text: &str| text.replace('\\', "\\e").replace('-', "\\-");
        _ = writeln!(page, ".TP\n.B {}\n{}: {}", plain(key), plain(what), plain(takes));
    }
    page.push_str(".SH SEE ALSO\n.BR kobj (1)\n");
    page
}

//! What the job was meant to leave: counted, never touched, never news. And what it left where no census looks.

use super::keep::Keep;
use crate::options::run::RunOptions;
use crate::report::schema::{NameRow, OutputRow, Outputs as OutputsRow};
use kobj_abi::{Class, HostKind, Layer};
use kobj_core::image::{FileHandle, HostImage, Identity};
use kobj_host::classify::Classifier;
use kobj_host::makers::Creation;
use kobj_host::output::{Command, Outputs};
use kobj_host::view::View;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most outputs that a verbose report lists.
const LISTED_MAX: usize = 10_000;

/// The job's outputs as they are found.
pub(crate) struct Meant<'a> {
    rules: Outputs<'a>,
    row: OutputsRow,
    listed: bool,
}

impl<'a> Meant<'a> {
    /// The rules for the command of `options`, as it was started.
    pub(crate) fn new(options: &RunOptions, view: &'a View) -> Self {
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        // Where a report is to be written the job may have made the folder.
        let reports = options.reports.iter().map(|report| report.path.clone().into_os_string());
        let arguments: Vec<OsString> = options.command.iter().cloned().chain(reports).collect();
        let command = Command { arguments: &arguments, environment: &environment, folder: &folder };
        Self { rules: Outputs::new(view, &command), row: OutputsRow::default(), listed: options.verbose }
    }

    /// Takes what was meant to be left out of `images`; what is left is not. `own` says whether they are the job's.
    pub(crate) fn take(&mut self, images: Vec<HostImage>, own: bool) -> Vec<HostImage> {
        let mut others = Vec::with_capacity(images.len());
        for image in images {
            if !self.rules.is_output(&image) {
                others.push(image);
            } else if own {
                self.count(&image);
            }
        }
        others
    }

    fn count(&mut self, image: &HostImage) {
        self.row.count += 1;
        self.row.bytes += image.size.unwrap_or(0);
        if self.listed && self.row.files.len() < LISTED_MAX {
            self.row.files.push(OutputRow { name: NameRow::new(&image.name), size: image.size });
        }
    }

    /// The report's row; `None` where no layer sees every creation.
    pub(crate) fn row(self, keep: &Keep<'_>) -> Option<OutputsRow> {
        none(keep).map(|_| self.row)
    }

    /// What the job made and no census lists, found through the living creations: sockets, lock and pid files in any
    /// folder. Ordinary files there are outputs.
    pub(crate) fn made_elsewhere(&mut self, keep: &mut Keep<'_>, listed: &[HostImage]) -> Vec<HostImage> {
        let known: HashSet<(u64, FileHandle)> = listed.iter().filter_map(key_of).collect();
        let mut folders: Vec<PathBuf> =
            listed.iter().filter(|i| i.kind == HostKind::TemporaryFolder).map(|i| path_of(i).to_owned()).collect();
        let creations: Vec<Creation> = keep.watches.makers().live().map(|(_, creation)| creation.clone()).collect();
        let unlisted = creations.into_iter().filter(|creation| !known.contains(&(creation.device, creation.handle)));
        let mut placed: Vec<(PathBuf, Creation)> =
            unlisted.filter_map(|creation| Some((keep.watches.path_of(&creation)?, creation))).collect();
        // A folder comes before what is in it: its tree is one object.
        placed.sort_by(|(one, _), (other, _)| one.as_os_str().cmp(other.as_os_str()));
        let mut found = Vec::new();
        let mut classifier = Classifier::new(keep.view);
        for (path, creation) in placed {
            if folders.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            match classifier.at(&path) {
                Ok(Some(image)) if key_of(&image) == Some((creation.device, creation.handle)) => {
                    if image.class == Class::Output {
                        self.count(&image);
                        continue;
                    }
                    if image.kind == HostKind::TemporaryFolder {
                        folders.push(path);
                    }
                    found.push(image);
                }
                _ => {}
            }
        }
        found
    }
}

/// No outputs; `None` where no layer sees every creation.
pub(crate) fn none(keep: &Keep<'_>) -> Option<OutputsRow> {
    keep.watches.layers().contains(&Layer::Fanotify).then(OutputsRow::default)
}

fn key_of(image: &HostImage) -> Option<(u64, FileHandle)> {
    match image.identity {
        Identity::File { device, handle: Some(handle), .. } => Some((device, handle)),
        _ => None,
    }
}

fn path_of(image: &HostImage) -> &Path {
    Path::new(OsStr::from_bytes(&image.name))
}

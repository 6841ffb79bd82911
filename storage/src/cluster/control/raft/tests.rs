//! The control log under crashes at every step, flipped bits, failing and full disks: after every
//! start the state is that of the commands that were acknowledged, and of the one under way at most.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, Schema};
use openraft::CommittedLeaderId;
use parking_lot::Mutex;

use crate::{
    DataDir, Error, Result,
    cluster::control::{
        Command, Control, ObjectId, ObjectName, TableRecord, ViewRecord, state::ControlState,
    },
    env::{
        Disk, Rng, SimDisk,
        disk::{Seal, write_sealed},
    },
    log::{Log, Lsn},
};

use super::{
    record::{self, Pieces, Record},
    types::{LogId, NODE, Payload},
};

mod faults;
mod suite;

const FOLDER: &str = "/control";
const ID: u64 = 0xC0FFEE;

fn disk(seed: u64) -> Arc<SimDisk> {
    SimDisk::new(seed, [FOLDER])
}

fn open(disk: &Arc<SimDisk>) -> Result<Control> {
    open_as(disk, ID)
}

fn open_as(disk: &Arc<SimDisk>, id: u64) -> Result<Control> {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    Control::open(&disk, Path::new(FOLDER), id, |_| Ok(()), |_, _, _| {})
}

fn table(name: &str) -> Command {
    let fields =
        vec![Field::new("k", DataType::Int64, false), Field::new("v", DataType::Utf8, true)];
    Command::CreateTable(TableRecord::new(name, Arc::new(Schema::new(fields)), &[0]))
}

/// A view whose text has so many bytes.
fn view(name: &str, length: usize, replace: bool) -> Command {
    let record = ViewRecord {
        id: ObjectId(0),
        name: ObjectName::public(name),
        sql: name.chars().cycle().take(length).collect(),
        columns: Vec::new(),
        schema: Arc::new(Schema::empty()),
    };
    Command::CreateView { record, replace }
}

fn drop_table(name: &str) -> Command {
    Command::DropRelation { kind: "table", name: ObjectName::public(name) }
}

/// Commands that all apply, in this order.
fn history(seed: u64, count: usize) -> Vec<Command> {
    let rng = Rng::seeded(seed);
    let mut tables = Vec::new();
    let command = |position: usize| match rng.next_u64() % 8 {
        0 | 1 => {
            tables.push(format!("t{position}"));
            table(&format!("t{position}"))
        }
        2 if !tables.is_empty() => drop_table(&tables.remove(0)),
        3 => view("large", 9000 + position, true),
        4 => view("middle", 3000 + position, true),
        5 => Command::Assign(vec![position as u16; 20]),
        _ => Command::ReserveId,
    };
    (0..count).map(command).collect()
}

/// The state as bytes, to be compared.
fn bytes(state: &ControlState) -> Vec<u8> {
    postcard::to_stdvec(state).unwrap()
}

/// The states before and after each command.
fn states(commands: &[Command]) -> Vec<Vec<u8>> {
    let control = Control::default();
    let mut states = vec![bytes(&control.state())];
    for command in commands {
        control.submit(command).unwrap();
        states.push(bytes(&control.state()));
    }
    states
}

fn names(disk: &SimDisk) -> Vec<String> {
    let entries = disk.list(Path::new(FOLDER)).unwrap();
    let mut names: Vec<_> =
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn refused<T>(result: Result<T>) -> (&'static str, String) {
    match result {
        Ok(_) => panic!("it is not refused"),
        Err(error) => (error.sqlstate(), error.to_string()),
    }
}

#[test]
fn commands_are_there_after_every_start_and_answered_as_in_memory() {
    let commands = history(1, 60);
    let states = states(&commands);
    let disk = disk(1);
    let in_memory = Control::default();
    for (position, command) in commands.iter().enumerate() {
        let control = open(&disk).unwrap();
        assert_eq!(bytes(&control.state()), states[position], "before command {position}");
        assert_eq!(control.submit(command).unwrap(), in_memory.submit(command).unwrap());
        assert_eq!(bytes(&control.state()), states[position + 1]);
        drop(control);
        disk.crash();
    }
}

#[test]
fn what_is_refused_changes_nothing_and_is_not_logged() {
    let disk = disk(1);
    let control = open(&disk).unwrap();
    control.submit(&table("t")).unwrap();
    let steps = disk.steps();
    let before = bytes(&control.state());
    assert_eq!(refused(control.submit(&table("t"))).0, "42P07");
    assert_eq!(refused(control.submit(&drop_table("u"))).0, "42P01");
    // A command that breaks an invariant, which panics in memory.
    let Command::CreateTable(record) = table("t") else { unreachable!() };
    let record = TableRecord { id: ObjectId(77), ..record };
    let broken = Command::ReplaceTable { replaced: ObjectId(1), record };
    let expected = ("XX000", "internal error: a command breaks an invariant".to_owned());
    assert_eq!(refused(control.submit(&broken)), expected);
    assert_eq!((disk.steps(), bytes(&control.state())), (steps, before));
    control.submit(&drop_table("t")).unwrap();
}

#[test]
fn who_acts_on_commands_is_told_of_new_ones_only_and_in_order() {
    let disk = disk(1);
    for round in 0..3 {
        let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = Arc::clone(&told);
            move |command: &Command, id: ObjectId, state: &ControlState| {
                assert!(matches!(command, Command::ReserveId));
                told.lock().push((id.0, state.version));
            }
        };
        let control = Control::open(&shared, Path::new(FOLDER), ID, |_| Ok(()), tell).unwrap();
        assert!(told.lock().is_empty(), "round {round}");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let id = control.submit(&Command::ReserveId).unwrap();
                        assert!(told.lock().iter().any(|(told, _)| *told == id.0));
                    }
                });
            }
        });
        let expected: Vec<_> = (1..=20).map(|n| (round * 20 + n, round * 20 + n)).collect();
        assert_eq!(*told.lock(), expected);
    }
}

#[test]
fn what_must_be_done_before_a_command_can_refuse_it() {
    let disk = disk(1);
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let before = {
        let (disk, seen) = (Arc::clone(&disk), Arc::clone(&seen));
        move |command: &Command| {
            seen.lock().push(disk.steps());
            match command {
                Command::ReserveId => Err(Error::Disk("the rows are not there".to_owned())),
                _ => Ok(()),
            }
        }
    };
    let control = Control::open(&shared, Path::new(FOLDER), ID, before, |_, _, _| {}).unwrap();
    let steps = disk.steps();
    let expected = ("58030", "the rows are not there".to_owned());
    assert_eq!(refused(control.submit(&Command::ReserveId)), expected);
    assert_eq!((control.state().version, disk.steps()), (0, steps));
    control.submit(&table("t")).unwrap();
    assert_eq!(*seen.lock(), [steps, steps], "it comes before the command is anywhere");
}

#[test]
fn the_state_is_saved_and_the_log_does_not_grow() {
    let commands = history(2, 400);
    let disk = disk(1);
    let control = open(&disk).unwrap();
    let mut most = 0;
    for command in &commands {
        control.submit(command).unwrap();
        most = most.max(names(&disk).len());
    }
    let logged: usize =
        commands.iter().map(|command| postcard::to_stdvec(command).unwrap().len()).sum();
    assert!(logged > 6 << 16, "many segments: {logged}");
    assert!(most <= 4, "the state, two segments and the next one: {most}");
    assert!(names(&disk).contains(&"state".to_owned()));
    let last = bytes(&control.state());
    drop(control);
    disk.crash();
    assert_eq!(bytes(&open(&disk).unwrap().state()), last);
}

#[test]
fn terms_rise_with_every_start_also_when_the_log_was_cut() {
    let disk = disk(1);
    for _ in 0..5 {
        let control = open(&disk).unwrap();
        for _ in 0..12 {
            control.submit(&view("v", 9000, true)).unwrap();
        }
    }
    drop(open(&disk).unwrap());
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
    let (mut pieces, mut terms, mut first) = (Pieces::default(), Vec::new(), None);
    let show = |lsn, piece: &[u8]| {
        first.get_or_insert(lsn);
        if let Some((lsn, bytes)) = pieces.take(lsn, piece)?
            && let Record::Vote { term, .. } = Record::decode(lsn, &bytes)?
        {
            terms.push(term);
        }
        Ok(())
    };
    drop(Log::open(&shared, Path::new(FOLDER), ID, Lsn(0), show).unwrap());
    assert!(first > Some(Lsn(60)), "the votes of the first starts are cut: {first:?}");
    assert!(terms.is_sorted() && terms.last() == Some(&6), "{terms:?}");
}

#[test]
fn a_command_too_large_for_the_log_is_refused() {
    let control = open(&disk(1)).unwrap();
    control.submit(&view("v", 14_000, false)).unwrap();
    let (code, text) = refused(control.submit(&view("w", 16_000, false)));
    assert_eq!(code, "53200");
    assert!(text.ends_with("bytes, and 15360 at most are possible"), "{text}");
}

#[test]
fn another_logs_and_newer_files_are_refused() {
    let disk = disk(1);
    let control = open(&disk).unwrap();
    for _ in 0..3 {
        control.submit(&view("v", 3000, true)).unwrap();
    }
    drop(control);
    assert!(names(&disk).contains(&"state".to_owned()));
    let (code, text) = refused(open_as(&disk, ID + 1));
    let expected = "/control/state: it belongs to another cluster or place";
    assert_eq!((code, text.as_str()), ("XX001", expected));
    let newer = Seal { magic: *b"TWCTLSTA", version: 4, owner: [ID, 0] };
    write_sealed(&*disk, Path::new(FOLDER), "state", &newer, b"whatever it is").unwrap();
    let expected = "/control/state: it has format 4, and this server reads up to 1";
    assert_eq!(refused(open(&disk)), ("XX001", expected.to_owned()));
}

#[test]
fn a_record_of_an_unknown_format_is_refused_by_its_version() {
    let disk = disk(1);
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
    let (log, _) = Log::open(&shared, Path::new(FOLDER), ID, Lsn(0), |_, _| Ok(())).unwrap();
    let lsn = log.append(|out| out.extend_from_slice(&[9, 0, 1, 2, 3]));
    log.sync(lsn).unwrap();
    drop(log);
    let expected = "record 1 of the control log: it has format 9, and this server reads 1";
    assert_eq!(refused(open(&disk)), ("XX001", expected.to_owned()));
}

#[test]
fn a_command_that_cannot_be_read_or_applied_stops_the_start_by_its_number() {
    for (command, why) in [
        (vec![250], "command 0 of the control log: "),
        (postcard::to_stdvec(&drop_table("t")).unwrap(), "table \"t\" does not exist"),
    ] {
        let disk = disk(1);
        let shared: Arc<dyn Disk> = Arc::clone(&disk) as _;
        let (log, _) = Log::open(&shared, Path::new(FOLDER), ID, Lsn(0), |_, _| Ok(())).unwrap();
        let entry = openraft::Entry { log_id: LogId::default(), payload: Payload::Normal(command) };
        let voters = openraft::Membership::new(vec![BTreeSet::from([NODE])], ());
        let log_id = LogId::new(CommittedLeaderId::new(1, NODE), 1);
        let alone = openraft::Entry { log_id, payload: Payload::Membership(voters) };
        for entry in [entry, alone] {
            record::append(&log, &Record::of_entry(entry).encode().unwrap());
        }
        log.sync(log.newest()).unwrap();
        drop(log);
        let (code, text) = refused(open(&disk));
        assert_eq!(code, "XX001", "{text}");
        assert!(text.contains("command 0 of the control log: ") && text.contains(why), "{text}");
    }
}

#[test]
fn files_that_are_missing_are_damage() {
    let prepared = || {
        let disk = disk(1);
        let control = open(&disk).unwrap();
        for _ in 0..40 {
            control.submit(&view("v", 3000, true)).unwrap();
        }
        drop(control);
        disk
    };
    let disk = prepared();
    disk.remove(&PathBuf::from(FOLDER).join("state")).unwrap();
    let (code, text) = refused(open(&disk));
    assert_eq!(code, "XX001");
    assert!(text.contains("of the control log: entries from 0 to "), "{text}");

    let disk = prepared();
    for name in names(&disk).iter().filter(|name| name.ends_with(".log")) {
        disk.remove(&PathBuf::from(FOLDER).join(name)).unwrap();
    }
    let (code, text) = refused(open(&disk));
    assert_eq!(code, "XX001");
    assert!(text.starts_with("/control: records from 1 to ") && text.ends_with("are missing"));
}

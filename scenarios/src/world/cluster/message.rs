//! What nodes and clients say to each other.

use protobuf::ProtobufEnum;
use raft::eraftpb;

use applier::KekCheck;
use applier::admission::Capability;
use sim::Address;

use crate::chronicle::{Asked, Told};
use crate::form::Form;

/// Labels of messages between members' Rafts begin here, in the order of raft-rs; others are below.
pub const RAFT_LABELS: u64 = 100;

/// One message.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// Between members.
    Raft(Box<eraftpb::Message>),
    /// A leader asks a member what it is capable of.
    Probe { from: u64, term: u64, kek: KekCheck, generation: u32 },
    /// The member's answer.
    Capable { member: u64, term: u64, capability: Capability },
    /// A client asks for something.
    Request(Box<Request>),
    /// And is answered.
    Answer { asked: Asked, answer: Answer },
}

impl Message {
    /// A number for the kind of message, for the trace.
    pub(super) fn label(&self) -> u64 {
        match self {
            Message::Raft(message) => RAFT_LABELS + message.get_msg_type() as u64,
            Message::Probe { .. } => 1,
            Message::Capable { .. } => 2,
            Message::Request(_) => 3,
            Message::Answer { .. } => 4,
        }
    }
}

/// The kind of message behind a label, in a word.
pub(crate) fn message_name(label: u64) -> &'static str {
    use eraftpb::MessageType as Type;
    match label {
        1 => "probe",
        2 => "capable",
        3 => "request",
        4 => "answer",
        _ => match label.checked_sub(RAFT_LABELS).and_then(|number| Type::from_i32(number as i32)) {
            Some(Type::MsgHeartbeat) => "heartbeat",
            Some(Type::MsgHeartbeatResponse) => "heartbeat answer",
            Some(Type::MsgAppend) => "append",
            Some(Type::MsgAppendResponse) => "append answer",
            Some(Type::MsgRequestVote) => "vote request",
            Some(Type::MsgRequestVoteResponse) => "vote",
            Some(Type::MsgRequestPreVote) => "pre-vote request",
            Some(Type::MsgRequestPreVoteResponse) => "pre-vote",
            Some(Type::MsgSnapshot) => "snapshot",
            Some(Type::MsgTimeoutNow) => "timeout now",
            Some(Type::MsgReadIndex) => "read index",
            Some(Type::MsgReadIndexResp) => "read index answer",
            Some(Type::MsgPropose) => "forwarded proposal",
            _ => "raft message",
        },
    }
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    /// Where the answer goes.
    pub(super) from: Address,
    pub(super) wish: Wish,
}

/// The request itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Write a value of the table.
    Put { key: u64, value: u64 },
    /// Bootstrap, rotate or register: the form, and the bytes that stand for it.
    Admin { form: Form, payload: Vec<u8> },
    /// Change the membership.
    Member(Change),
}

impl Wish {
    /// The entry that it asks for, if that means anything to a state machine.
    pub(super) fn form(&self) -> Option<Form> {
        match self {
            Wish::Put { key, value } => Some(Form::Data { key: *key, value: *value, seal: None }),
            Wish::Admin { form, .. } => Some(form.clone()),
            Wish::Member(_) => None,
        }
    }
}

/// A change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A node that follows without a vote.
    AddLearner(u64),
    /// It gets a vote.
    Promote(u64),
    /// A node is no member any more.
    Remove(u64),
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The end of its request.
    Told(Told),
    /// Ask that one, if anyone is known.
    NotLeader { hint: u64 },
    /// Not now: a leader that has just been elected, one that has another request in flight, members that have not
    /// answered yet.
    NotYet,
}

/// What the context of an entry says: who asked, and whether a leader has smuggled it in.
pub(super) fn context_bytes(asked: Asked, smuggled: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(17);
    bytes.extend(asked.client.to_be_bytes());
    bytes.extend(asked.number.to_be_bytes());
    bytes.push(u8::from(smuggled));
    bytes
}

/// Reads it back; nobody and not smuggled where there is none.
pub(super) fn context_of(bytes: &[u8]) -> (Asked, bool) {
    let Ok(bytes) = <&[u8; 17]>::try_from(bytes) else { return (Asked::default(), false) };
    let (client, rest) = bytes.split_first_chunk().expect("17 bytes");
    let (number, rest) = rest.split_first_chunk().expect("9 bytes");
    let asked = Asked { client: u64::from_be_bytes(*client), number: u64::from_be_bytes(*number) };
    (asked, rest == [1])
}

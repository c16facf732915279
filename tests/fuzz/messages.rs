//! Request messages for every RPC, generated from the descriptors, so that new RPCs are covered.

use leadsd::grpc::DESCRIPTORS;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use crate::{random::Random, setup::Peers};

/// Methods and message types of the contract.
pub(crate) struct Contract {
    /// Path and input type of each method.
    pub(crate) methods: Vec<(String, String)>,
    types: Vec<(String, DescriptorProto)>,
}

/// Existing records, so that some requests succeed.
pub(crate) struct ExistingRecords<'a> {
    pub(crate) peers: &'a Peers,
    /// One field in this many is malformed.
    pub(crate) malformed_one_in: usize,
}

// === impl Contract ===

impl Contract {
    pub(crate) fn read() -> Self {
        let (mut methods, mut types) = (Vec::new(), Vec::new());
        for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.push((path, method.input_type().to_owned()));
                }
            }
            for message in &file.message_type {
                add(&mut types, &format!(".{}", file.package()), message);
            }
        }
        // A watch does not end until its client disconnects.
        methods.retain(|(path, _)| !path.ends_with("/WatchQuota"));
        assert!(methods.len() >= 13, "{methods:?}");
        Self { methods, types }
    }

    /// Generates a message of this type, with some malformed fields.
    pub(crate) fn message(
        &self,
        random: &mut Random,
        known: &ExistingRecords<'_>,
        name: &str,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.fill(random, known, name, 0, &mut bytes);
        bytes
    }

    fn fill(
        &self,
        random: &mut Random,
        known: &ExistingRecords<'_>,
        name: &str,
        depth: usize,
        out: &mut Vec<u8>,
    ) {
        let Some((_, message)) = self.types.iter().find(|(known, _)| known == name) else { return };
        for field in &message.field {
            let many = field.label() == Label::Repeated;
            let needed = ["id", "ids", "inputs", "key", "primary_contact_id", "to_id"];
            let times = match random.below(20) {
                0..6 if !needed.contains(&field.name())
                    || random.one_in(known.malformed_one_in) =>
                {
                    0
                }
                6 if many => random.below(200),
                7 | 8 if many => 2,
                _ => 1,
            };
            let number = u32::try_from(field.number()).unwrap();
            for _ in 0..times {
                if random.one_in(known.malformed_one_in * 8) {
                    // Uses another wire type than that of the field.
                    encode_key(number, WireType::Varint, out);
                    encode_varint(random.number(), out);
                    continue;
                }
                match field.r#type() {
                    Type::Message if depth < 6 => {
                        let mut inner = Vec::new();
                        self.fill(random, known, field.type_name(), depth + 1, &mut inner);
                        put(number, &inner, out);
                    }
                    Type::String => {
                        let text = known.text(random, field.name());
                        put(number, text.as_bytes(), out);
                    }
                    Type::Bytes => put(number, &random.bytes(40), out),
                    Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                        encode_key(number, WireType::SixtyFourBit, out);
                        out.extend(random.number().to_le_bytes());
                    }
                    Type::Bool | Type::Enum => {
                        encode_key(number, WireType::Varint, out);
                        encode_varint(
                            if random.one_in(known.malformed_one_in) {
                                random.number()
                            } else {
                                random.next_u64() % 5
                            },
                            out,
                        );
                    }
                    _ => {
                        encode_key(number, WireType::Varint, out);
                        encode_varint(
                            if random.one_in(known.malformed_one_in) {
                                random.number()
                            } else {
                                random.next_u64() % 101
                            },
                            out,
                        );
                    }
                }
            }
        }
    }
}

fn add(types: &mut Vec<(String, DescriptorProto)>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        add(types, &name, nested);
    }
    types.push((name, message.clone()));
}

fn put(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}

// === impl ExistingRecords ===

impl ExistingRecords<'_> {
    /// Generates a text for a field of this name.
    fn text(&self, random: &mut Random, field: &str) -> String {
        if random.one_in(self.malformed_one_in) {
            return random.text();
        }
        let lead = random.pick(&self.peers.leads).clone();
        let one_of = |random: &mut Random, all: &[&str]| (*random.pick(all)).to_owned();
        match field {
            "id" | "ids" | "value" | "values" if random.one_in(2) => lead,
            "id" | "ids" => format!("k{}", random.below(40)),
            "primary_contact_id" | "to_id" => self.peers.contact.clone(),
            "id_property" => one_of(random, &["", "crm_key", "hs_object_id", "nothing"]),
            "page_token" | "request_id" | "object_write_trace_id" | "query" if random.one_in(2) => {
                String::new()
            }
            "key" | "properties" | "properties_with_history" | "property_name" | "property" => {
                one_of(
                    random,
                    &["hs_lead_name", "hs_lead_label", "hs_object_id", "crm_key", "createdate"],
                )
            }
            "associations" => one_of(random, &["contacts", "companies", "deals", "0-1"]),
            "value" if self.malformed_one_in > 20 => format!("Jane {}", random.below(100)),
            _ if self.malformed_one_in > 20 => String::new(),
            _ => random.text(),
        }
    }
}

//! What a tracepoint's record looks like, as tracefs describes it (Linux
//! Documentation/trace/events.rst, "Event formats"). Offsets are read, never assumed: they differ
//! between kernels.

/// A tracepoint's number, and its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    pub id: u64,
    fields: Vec<(String, Field)>,
}

/// Where a field lies in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub offset: i16,
    pub size: Size,
}

/// Bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    One,
    Two,
    Four,
    Eight,
}

/// Why a description is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("has no ID")]
    NoId,
    #[error("has no number {0}")]
    NoField(&'static str),
}

/// The first bytes of a record are the tracer's own, and no program may read them.
const HEADER: i16 = 8;

impl Format {
    /// Reads a `format` file. What is no number (arrays, `__data_loc`) is left out.
    pub fn parse(text: &str) -> Result<Format, FormatError> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:")?.trim().parse().ok());
        let fields = text.lines().filter_map(field).filter(|(_, field)| field.offset >= HEADER);
        Ok(Format { id: id.ok_or(FormatError::NoId)?, fields: fields.collect() })
    }

    /// The field of this name.
    pub fn field(&self, name: &'static str) -> Result<Field, FormatError> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, field)| *field).ok_or(FormatError::NoField(name))
    }
}

/// `field:unsigned int exit_reason; offset:8; size:4; signed:0;`, with tabs between.
fn field(line: &str) -> Option<(String, Field)> {
    let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
    let (_, name) = parts.next()?.rsplit_once(' ')?;
    let mut number = |key: &str| parts.next()?.strip_prefix(key)?.parse::<i16>().ok();
    let (offset, size) = (number("offset:")?, number("size:")?);
    let size = match size {
        1 => Size::One,
        2 => Size::Two,
        4 => Size::Four,
        8 => Size::Eight,
        _ => return None,
    };
    (!name.contains('[')).then(|| (name.to_owned(), Field { offset, size }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Linux 6.1, and a field moved and one made wider, as no kernel has had it yet.
    const EXIT: &str = "name: kvm_exit
ID: 1419
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:unsigned int exit_reason;\toffset:8;\tsize:4;\tsigned:0;
\tfield:unsigned long guest_rip;\toffset:16;\tsize:8;\tsigned:0;
\tfield:u32 isa;\toffset:24;\tsize:4;\tsigned:0;
\tfield:char comm[16];\toffset:32;\tsize:16;\tsigned:0;

print fmt: \"vcpu %u reason %s\", REC->vcpu_id, \"field:u32 fake;\"
";

    #[test]
    fn offsets_are_those_of_the_file() {
        let format = Format::parse(EXIT).unwrap();
        assert_eq!(format.id, 1419);
        assert_eq!(format.field("exit_reason"), Ok(Field { offset: 8, size: Size::Four }));
        assert_eq!(format.field("isa"), Ok(Field { offset: 24, size: Size::Four }));
        let moved = EXIT.replace("offset:24;\tsize:4", "offset:40;\tsize:8");
        let moved = Format::parse(&moved).unwrap();
        assert_eq!(moved.field("isa"), Ok(Field { offset: 40, size: Size::Eight }));
    }

    #[test]
    fn what_is_missing_is_named() {
        let format = Format::parse(EXIT).unwrap();
        for name in ["fake", "comm[16]", "common_pid", "vcpu_id"] {
            assert_eq!(format.field(name), Err(FormatError::NoField(name)));
        }
        for text in ["", "ID: x", "name: a\nformat:\n", "\0\0ID:"] {
            assert_eq!(Format::parse(text), Err(FormatError::NoId), "{text:?}");
        }
        assert!(Format::parse("ID: 7\nfield:;offset:;size:;\nfield:u8 x;offset:99999;size:1;").is_ok());
    }
}

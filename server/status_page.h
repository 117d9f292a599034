// The status page: one document with a style sheet and a script of its own,
// nothing from elsewhere.
#pragma once

namespace latticed {

extern const char kStatusHtml[];
extern const char kStatusCss[];
extern const char kStatusJs[];
// Content-Security-Policy of the document: it may load the other two and
// status.json from where it came from, and nothing else.
extern const char kStatusPolicy[];

}  // namespace latticed

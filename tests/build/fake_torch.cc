// Stands in for a LibTorch; a macro says what it defines of protobuf.
namespace google::protobuf {
class Message;
#if defined(STRONG_SYMBOL)
void ShutdownProtobufLibrary() {}
#elif defined(WEAK_SYMBOL)
__attribute__((weak)) void ShutdownProtobufLibrary() {}
#elif defined(LOADER)
void ShutdownProtobufLibrary();
#endif
}  // namespace google::protobuf

namespace torch {
// Of torch's own, though protobuf's name is in it.
void Parse(const google::protobuf::Message*) {}
#if defined(LOADER)
void Shutdown() { google::protobuf::ShutdownProtobufLibrary(); }
#endif
}  // namespace torch

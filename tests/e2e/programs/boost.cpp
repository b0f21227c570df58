// Boost.Interprocess: a managed segment, a named mutex and a message queue; a killed holder leaves the mutex locked.
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/named_mutex.hpp>
#include <iostream>
#include <string>
namespace interprocess = boost::interprocess;

int main(int count, char **argument) {
    if (count != 2) return 2;
    const std::string tag = argument[1], memory = tag + "-memory", mutex = tag + "-mutex", queue = tag + "-queue";
    {
        interprocess::managed_shared_memory segment(interprocess::create_only, memory.c_str(), 65536);
        segment.construct<int>("answer")(42);
        interprocess::named_mutex lock(interprocess::create_only, mutex.c_str());
        interprocess::message_queue messages(interprocess::create_only, queue.c_str(), 8, 16);
        lock.lock();
        std::cout << "ready" << std::endl;
        std::string line;
        while (std::getline(std::cin, line)) {
        }
        lock.unlock();
    }
    interprocess::shared_memory_object::remove(memory.c_str());
    interprocess::named_mutex::remove(mutex.c_str());
    interprocess::message_queue::remove(queue.c_str());
}

// A Pub/Sub server for tests: Google's own fake, which speaks gRPC, with an HTTP door for what a test does besides.
//
// It prints "ready GRPC HTTP" with the addresses of both, on ports that the system chose. The HTTP door answers
//
//	POST /call/SERVICE/METHOD    calls google.pubsub.v1.SERVICE with a request in JSON, answers in JSON
//	GET  /messages               everything ever published, with how often it was delivered and acknowledged
//	POST /clock?ahead=SECONDS    sets the clock that leases go by that far ahead of the real one
//	POST /streams?end=SECONDS    ends each streaming pull that is opened from now on after that time; 0: never
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// What a request may have; the fake's own server stops at 4 MiB, below what Pub/Sub takes.
const largestMessage = 64 << 20

func main() {
	fake := pstest.NewServerWithAddress("127.0.0.1:0")
	server := grpc.NewServer(grpc.MaxRecvMsgSize(largestMessage), grpc.MaxSendMsgSize(largestMessage))
	pubsubpb.RegisterPublisherServer(server, &fake.GServer)
	pubsubpb.RegisterSubscriberServer(server, &fake.GServer)
	pubsubpb.RegisterSchemaServiceServer(server, &fake.GServer)
	calls, door := listen(), listen()
	conn, err := grpc.NewClient(calls.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestMessage)))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /call/{service}/{method}", func(w http.ResponseWriter, r *http.Request) {
		answer, err := call(r, conn)
		if err != nil {
			http.Error(w, fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message()), http.StatusBadRequest)
			return
		}
		w.Write(answer)
	})
	http.HandleFunc("GET /messages", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(fake.Messages())
	})
	http.HandleFunc("POST /clock", seconds("ahead", func(ahead time.Duration) {
		fake.SetTimeNowFunc(func() time.Time { return time.Now().Add(ahead) })
	}))
	http.HandleFunc("POST /streams", seconds("end", fake.SetStreamTimeout))
	go func() { log.Fatal(http.Serve(door, nil)) }()
	fmt.Println("ready", calls.Addr(), door.Addr())
	log.Fatal(server.Serve(calls))
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

// Any method without streams, by the descriptors that the generated code carries.
func call(r *http.Request, conn *grpc.ClientConn) ([]byte, error) {
	service := protoreflect.FullName("google.pubsub.v1." + r.PathValue("service"))
	name := service.Append(protoreflect.Name(r.PathValue("method")))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok || method.IsStreamingClient() || method.IsStreamingServer() {
		return nil, fmt.Errorf("%s is not a plain method", name)
	}
	request, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return nil, err
	}
	response, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	asked, answered := request.New().Interface(), response.New().Interface()
	if err := protojson.Unmarshal(body, asked); err != nil {
		return nil, err
	}
	path := fmt.Sprintf("/%s/%s", service, method.Name())
	if err := conn.Invoke(context.WithoutCancel(r.Context()), path, asked, answered); err != nil {
		return nil, err
	}
	return protojson.Marshal(answered)
}

func seconds(name string, set func(time.Duration)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		number, err := strconv.ParseFloat(r.URL.Query().Get(name), 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		set(time.Duration(number * float64(time.Second)))
	}
}

// Package uploadapi names the API group that cdi-apiserver serves: what it is registered under, what roles grant, and what
// clients ask for.
package uploadapi

// The group and what is in it.
const (
	Group = "upload.cdi.kubevirt.io"
	// TokenRequests are created to be allowed to upload.
	TokenRequests = "uploadtokenrequests"
	// Uploads is ours: the claims that can be uploaded into. Its subresource proxy leads to a claim's upload server. The API
	// server lets requests to a subresource of that name last.
	Uploads = "uploads"
	Proxy   = "proxy"
	// Direct is the endpoint of clients that mean to call the upload server themselves.
	Direct = "upload-direct"
)

// Versions lists what is served, the preferred one first.
func Versions() []string { return []string{"v1beta1", "v1alpha1"} }

// ProxyPath is where a claim's upload server is found behind the API server: endpoint is upload, upload-async, upload-form,
// upload-form-async or upload-direct.
func ProxyPath(namespace, claim, endpoint string) string {
	return "/apis/" + Group + "/" + Versions()[0] + "/namespaces/" + namespace + "/" + Uploads + "/" + claim + "/" + Proxy + "/" + endpoint
}
